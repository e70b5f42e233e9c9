"""Read a run's journal, also while it grows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgpack

from .codec import is_record, unpacker_of_records

BLOCK_BYTES = 1 << 22  # read at a time
HEAD_BYTES = 1 << 14  # read at a time when only the first records are needed


class JournalReader:
    """The reading end of a journal: yields each record once. Several may read at the same time.

    Args:
        path: of the journal.
        block: bytes read at a time.
    """

    def __init__(self, path: Path, block: int = BLOCK_BYTES):
        self.path = path
        self._file: BinaryIO | None = None
        self._offset = 0
        self._block = block

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the complete records that were appended since the last iteration.

        Raises:
            ValueError: the journal is damaged.
        """
        if self._file is None:
            self._file = open(self.path, "rb")
        while True:
            self._file.seek(self._offset)  # after the last complete record: a torn one is reread
            data = self._file.read(self._block)
            start = self._offset
            for record, end in self._complete_records(data):
                self._offset = start + end
                yield record
            if len(data) < self._block:
                return
            if self._offset == start:
                self._block *= 2  # a record larger than the block

    def _complete_records(self, data: bytes) -> Iterator[tuple[Any, int]]:
        """Yield each complete record in `data`, and where it ends."""
        unpacker = unpacker_of_records()
        unpacker.feed(data)
        while True:
            try:
                record = unpacker.unpack()
                if not is_record(record):
                    raise ValueError(f"{str(record)[:80]!r} is not a document")
            except msgpack.OutOfData:
                return
            except Exception as exc:  # damaged bytes can raise anything in a decoder
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
    """Return all complete records of a journal.

    Raises:
        ValueError: the journal is damaged.
    """
    reader = JournalReader(path)
    try:
        return list(reader)
    finally:
        reader.close()


def head(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a journal's first records, reading no more of the file than is needed.

    Raises:
        ValueError: the journal is damaged.
    """
    reader = JournalReader(path, HEAD_BYTES)
    try:
        yield from reader
    finally:
        reader.close()
