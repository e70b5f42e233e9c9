"""Write a run's journal: its documents, in order, in one append-only msgpack file.

The journal is the only thing between plan and writer. Each document is one `os.write`, so a record
is complete, or torn at the very end; readers stop at a torn end, and continue when it is complete.
numpy values and NaN survive; nothing in a journal can execute when it is read.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

import filelock

from bluesky_em.documents import Document

from .atomic import sync_folder
from .codec import pack
from .locks import is_held
from .plain_values import Note, silent

UNWRITTEN_LIMIT = 64 << 20  # bytes of documents that may wait in memory while the disk refuses them


class Journal:
    """The writing end of a journal, owned by the RunEngine's process.

    It holds a lock file beside the journal as long as it is open. The lock shows the writer whether
    the run's process is alive.

    While the disk refuses documents, they wait in memory, in order, until `catch_up` writes them:
    the plan continues, and detectors are held as long as `unwritten` is not empty.

    Args:
        path: `<storage>/journal/<run uid>.msgpack`, which is created.
        make_room: called when the disk is full; returns whether it has freed some space.
        note: called for each value that is kept in another form, as by `pack`.

    Raises:
        FileExistsError: that run has a journal already: documents of two runs must never mix.
    """

    def __init__(
        self, path: Path, make_room: Callable[[], bool] = lambda: False, note: Note = silent
    ):
        if path.exists():
            raise FileExistsError(
                f"a run with this uid has begun already, its journal is {path}. Is Storage "
                "subscribed twice, or an earlier run played back? Give another run another uid"
            )
        self.path = path
        self.unwritten: deque[bytes] = deque()
        """records that are in memory only"""
        self.trouble = ""
        """why there are such records"""
        self._make_room = make_room
        self._note = note
        # of no thread: the one that closes the journal is another than the one that begins it
        self._lock = filelock.FileLock(_lock_of(path), timeout=0, thread_local=False)
        self._lock.acquire()  # before the journal exists: no writer may see it without its lock
        self._file = open(path, "ab", buffering=0)
        self._size = 0
        self._is_name_synced = False
        self._appending = threading.Lock()
        self._closing = threading.Lock()

    def append(self, name: str, document: Document) -> None:
        """Append one document; when this returns, it survives the death of any process.

        While the disk refuses it, the document is in memory only, see `unwritten`.

        Raises:
            OSError: the disk refuses, and `UNWRITTEN_LIMIT` bytes are in memory already.
            TypeError: as `pack` does.
        """
        record = pack(name, document, self._note)
        with self._appending:
            if not self.unwritten and self._write(record):
                return
            if sum(map(len, self.unwritten)) > UNWRITTEN_LIMIT:
                raise OSError(
                    f"{self.path} cannot be written ({self.trouble}), and {len(self.unwritten)} "
                    "documents wait for that in memory already: free its disk before you continue"
                )
            self.unwritten.append(record)

    def catch_up(self) -> bool:
        """Write what waits in memory, as far as the disk takes it; return whether that is all."""
        with self._appending:
            if self.unwritten and not self._reopen():
                return False
            while self.unwritten and self._write(self.unwritten[0]):
                self.unwritten.popleft()
            return not self.unwritten

    def sync(self) -> None:
        """Wait until all appended documents survive a power cut, too; do nothing once closed."""
        with self._closing:
            if not self._file.closed:
                os.fsync(self._file.fileno())
                if not self._is_name_synced:
                    sync_folder(self.path.parent)
                    self._is_name_synced = True

    def close(self) -> None:
        """Catch up, sync and close; closing twice is harmless.

        Raises:
            OSError: documents are left in memory; the journal stays open.
        """
        if not self.catch_up():
            raise OSError(
                f"{len(self.unwritten)} documents wait for {self.path}, which cannot be written: "
                f"{self.trouble}"
            )
        self.sync()
        with self._closing:
            self._file.close()
            self._lock.release()
            with contextlib.suppress(OSError):  # Windows: the writer is checking it just now
                _lock_of(self.path).unlink()

    def _write(self, record: bytes) -> bool:
        """Write one record completely, or nothing of it."""
        try:
            rest = memoryview(record)
            while rest:  # a write may be short, e.g. on a full disk
                rest = rest[self._file.write(rest) :]
        except OSError as exc:
            with contextlib.suppress(OSError):  # the next attempt does it again
                self._file.truncate(self._size)
            if exc.errno == errno.ENOSPC and self._make_room():
                return self._write(record)
            self.trouble = exc.strerror or str(exc)
            return False
        self._size += len(record)
        self.trouble = ""
        return True

    def _reopen(self) -> bool:
        """Open the file again, without a torn record: its disk may have been disconnected."""
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
    """Check whether no living process can append to a journal."""
    return not is_held(_lock_of(path))


def _lock_of(path: Path) -> Path:
    return path.with_suffix(".lock")
