"""The journal: every document of a run, in order, in one append-only msgpack file.

The only thing between plan and writer. One `os.write` per document, so a record is whole or torn
at the very end; readers stop at a torn tail and go on when it has been completed. numpy values
and NaN survive; nothing in a journal can execute when it is read.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import filelock
import msgpack

from bluesky_em.documents import Document

from .codec import is_record, pack, unpacker_of_records
from .locks import is_held

BLOCK = 1 << 22  # bytes read at a time
HEAD = 1 << 14  # bytes read at a time of who wants the first records only
LATE = 64 << 20  # bytes of documents that may wait in memory while the disk refuses


class Journal:
    """The writing end, owned by the RunEngine's process.

    Holds a lock file beside the journal as long as it is open, so that the writer can tell a run
    that goes on from one whose process died.

    While its disk refuses, documents wait in memory, in order, until `catch_up` brings them in:
    the plan goes on, and whoever could produce more of them is told by `late` to wait.

    Args:
        path: `<storage>/journal/<run uid>.msgpack`, which is made.
        make_room: called when the disk is full; tells whether it has freed some.

    Raises:
        FileExistsError: there is a journal of that run: documents of two runs must never mix.
    """

    def __init__(self, path: Path, make_room: Callable[[], bool] = lambda: False):
        if path.exists():
            raise FileExistsError(
                f"a run with this uid has begun already, its journal is {path}. Is Storage "
                "subscribed twice, or an earlier run played back? Give another run another uid"
            )
        self.path = path
        self.late: deque[bytes] = deque()
        """records that are in memory only"""
        self.trouble = ""
        """why there are such records"""
        self._make_room = make_room
        self._lock = filelock.FileLock(_lock_of(path), timeout=0)
        self._lock.acquire()  # before there is a journal: no writer must see it without its lock
        self._file = open(path, "ab", buffering=0)
        self._size = 0
        self._appending = threading.Lock()
        self._closing = threading.Lock()

    def append(self, name: str, document: Document) -> None:
        """Append one document; when this returns, it survives the death of any process.

        Unless its disk refuses, see `late`.

        Raises:
            OSError: the disk refuses, and `LATE` bytes are in memory already.
            TypeError: as `pack` does.
        """
        record = pack(name, document)
        with self._appending:
            if not self.late and self._write(record):
                return
            if sum(map(len, self.late)) > LATE:
                raise OSError(
                    f"{self.path} cannot be written ({self.trouble}), and {len(self.late)} "
                    "documents wait for that in memory already: free its disk before you go on"
                )
            self.late.append(record)

    def catch_up(self) -> bool:
        """Write what waits in memory, as far as the disk takes it; tell whether that is all."""
        with self._appending:
            if self.late and not self._reopen():
                return False
            while self.late and self._write(self.late[0]):
                self.late.popleft()
            return not self.late

    def sync(self) -> None:
        """Make what was appended survive a power cut, too; does nothing once closed."""
        with self._closing:
            if not self._file.closed:
                os.fsync(self._file.fileno())

    def close(self) -> None:
        """Catch up, sync and close; closing twice is harmless.

        Raises:
            OSError: documents are left in memory; the journal stays open.
        """
        if not self.catch_up():
            raise OSError(
                f"{len(self.late)} documents wait for {self.path}, which cannot be written: "
                f"{self.trouble}"
            )
        self.sync()
        with self._closing:
            self._file.close()
            self._lock.release()
            with contextlib.suppress(OSError):  # the writer is just looking at it
                _lock_of(self.path).unlink()

    def _write(self, record: bytes) -> bool:
        """Write one record whole, or nothing of it."""
        try:
            rest = memoryview(record)
            while rest:  # a write may be short, e.g. on a full disk
                rest = rest[self._file.write(rest) :]
        except OSError as exc:
            with contextlib.suppress(OSError):  # then at the next attempt
                self._file.truncate(self._size)
            if exc.errno == errno.ENOSPC and self._make_room():
                return self._write(record)
            self.trouble = exc.strerror or str(exc)
            return False
        self._size += len(record)
        self.trouble = ""
        return True

    def _reopen(self) -> bool:
        """Open the file anew, without a torn record: its disk may have been away."""
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(open(self.path, "r+b", buffering=0))
                file.truncate(self._size)
                file.seek(self._size)
            except OSError as exc:
                self.trouble = str(exc)
                return False
            stack.pop_all()
        with self._closing, contextlib.suppress(OSError):
            self._file.close()
        self._file = file
        return True


def is_abandoned(path: Path) -> bool:
    """Tell whether nobody can append to a journal any more."""
    return not is_held(_lock_of(path))


def _lock_of(path: Path) -> Path:
    return path.with_suffix(".lock")


class JournalReader:
    """The reading end: gives each record once, as it comes. Any number may read at a time.

    Args:
        path: of the journal.
        block: bytes read at a time.
    """

    def __init__(self, path: Path, block: int = BLOCK):
        self.path = path
        self._file: BinaryIO | None = None
        self._offset = 0
        self._block = block

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Give the whole records that have arrived since the last look."""
        if self._file is None:
            self._file = open(self.path, "rb")
        while True:
            self._file.seek(self._offset)  # of the last whole record: a torn one is read again
            data = self._file.read(self._block)
            start = self._offset
            for record, end in self._whole_records(data):
                self._offset = start + end
                yield record
            if len(data) < self._block:
                return
            if self._offset == start:
                self._block *= 2  # a record larger than the block

    def _whole_records(self, data: bytes) -> Iterator[tuple[Any, int]]:
        """Give each whole record in `data`, and where it ends."""
        unpacker = unpacker_of_records()
        unpacker.feed(data)
        while True:
            try:
                record = unpacker.unpack()
                if not is_record(record):
                    raise ValueError(f"{str(record)[:80]!r} is no document")
            except msgpack.OutOfData:
                return
            except Exception as exc:  # whatever damaged bytes may do to a decoder
                raise ValueError(
                    f"{self.path} is damaged at byte {self._offset}: {exc or repr(exc)}. "
                    "What comes before it is safe"
                ) from exc
            yield record, unpacker.tell()

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        if self._file is not None:
            self._file.close()


def read(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Read all the whole records of a journal."""
    reader = JournalReader(path)
    try:
        return list(reader)
    finally:
        reader.close()


def head(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give a journal's first records, reading no more than is asked for."""
    reader = JournalReader(path, HEAD)
    try:
        yield from reader
    finally:
        reader.close()
