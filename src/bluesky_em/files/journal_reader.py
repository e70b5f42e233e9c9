"""Read a run's journal, also while it grows."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from .codec import records
from .idle_files import IdleFiles

BLOCK_BYTES = 1 << 22  # read at a time
HEAD_BYTES = 1 << 14  # read at a time when only the first records are needed
OPEN_LIMIT = 60  # journals that a process keeps open; macOS lets a process open 256 files
_TAIL_BYTES = 32  # before a position, by which a journal is recognised when it is opened again
_IDLE = IdleFiles(OPEN_LIMIT)


class DamagedJournal(ValueError):
    """A journal cannot be read on.

    Args:
        path: of the journal.
        offset: where the damage begins, in bytes; what comes before it is safe.
        why: what is wrong there.
    """

    def __init__(self, path: Path, offset: int, why: str):
        super().__init__(f"{path} is damaged at byte {offset}: {why}. What comes before it is safe")
        self.path = path
        self.offset = offset


class JournalReader:
    """The reading end of a journal: yields each record once. Several may read at the same time.

    There may be thousands of readers, e.g. of runs that wait for Tiled. Only the `OPEN_LIMIT` files
    that were read last stay open; another one is opened again once it has grown.

    Args:
        path: of the journal.
        block: bytes read at a time.
        idle: keeps the file open between two iterations.
    """

    def __init__(self, path: Path, block: int = BLOCK_BYTES, idle: IdleFiles = _IDLE):
        self.path = path
        self._idle = idle
        self._closed = False
        self._offset = 0
        self._tail = b""
        self._block = block

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the complete records that were appended since the last iteration.

        Raises:
            DamagedJournal: the journal is damaged.
            ValueError: it is not the same file as before, or this is closed.
        """
        while True:
            data = self._read()
            start, before = self._offset, 0
            for record, end in self._complete_records(data):
                self._offset = start + end
                self._tail += data[max(before, end - _TAIL_BYTES) : end]
                self._tail, before = self._tail[-_TAIL_BYTES:], end
                yield record
            if len(data) < self._block:
                return
            if self._offset == start:
                self._block *= 2  # a record larger than the block

    def _read(self) -> bytes:
        """Return the next block, which begins after the last complete record."""
        if self._closed:
            raise ValueError(f"the reader of {self.path} is closed")
        file = self._idle.take(self) or self._open()
        if file is None:
            return b""
        try:
            file.seek(self._offset)
            data = file.read(self._block)
        finally:
            self._idle.keep(self, file)
            if self._closed:  # by another thread, while this one had the file
                self.close()
        return data

    def _open(self) -> BinaryIO | None:
        """Open the journal; return None if it has not grown since it was read last."""
        if self._offset and os.stat(self.path).st_size == self._offset:
            return None
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(open(self.path, "rb"))
            file.seek(self._offset - len(self._tail))
            if file.read(len(self._tail)) != self._tail:
                raise ValueError(
                    f"{self.path} is no longer the file of which {self._offset} bytes were read: "
                    "another one is in its place. Put the original back"
                )
            stack.pop_all()
        return file

    def _complete_records(self, data: bytes) -> Iterator[tuple[Any, int]]:
        """Yield each complete record in `data`, and where it ends."""
        try:
            yield from records(data)
        except Exception as exc:
            raise DamagedJournal(self.path, self._offset, str(exc) or repr(exc)) from exc

    @property
    def offset(self) -> int:
        """The position in bytes behind the last record that was read."""
        return self._offset

    def close(self) -> None:
        """Close the file and read no more; closing twice is harmless."""
        self._closed = True
        file = self._idle.take(self)
        if file is not None:
            file.close()


def read(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return all complete records of a journal.

    Raises:
        DamagedJournal: the journal is damaged.
    """
    reader = JournalReader(path)
    try:
        return list(reader)
    finally:
        reader.close()


def head(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a journal's first records, reading no more of the file than is needed.

    Raises:
        DamagedJournal: the journal is damaged.
    """
    reader = JournalReader(path, HEAD_BYTES)
    try:
        yield from reader
    finally:
        reader.close()
