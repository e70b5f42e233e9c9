"""The journal: every document of a run, in order, in one append-only msgpack file.

The only thing between plan and writer. One `os.write` per document, so a record is whole or torn
at the very end; readers stop at a torn tail and go on when it has been completed. numpy values
and NaN survive; nothing in a journal can execute when it is read.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import filelock
import msgpack
import numpy as np

from . import lifeline
from .documents import Document

BLOCK = 1 << 22  # bytes read at a time
_ARRAY = 1  # msgpack extension type: [dtype, shape, bytes] of a numpy array


class Journal:
    """The writing end, owned by the RunEngine's process.

    Holds a lock file beside the journal as long as it is open, so that the writer can tell a run
    that goes on from one whose process died.

    Args:
        path: `<storage>/journal/<run uid>.msgpack`; made if absent.
    """

    def __init__(self, path: Path):
        self.path = path
        self._lock = filelock.FileLock(_lock_of(path), timeout=0)
        self._lock.acquire()  # before there is a journal: no writer must see it without its lock
        self._file = open(path, "ab", buffering=0)
        self._size = self._file.tell()
        self._closing = threading.Lock()

    def append(self, name: str, document: Document) -> None:
        """Append one document; when this returns, it survives the death of any process.

        Raises:
            OSError: it could not be written whole; then nothing of it is in the journal.
            TypeError: as `pack` does.
        """
        record = memoryview(pack(name, document))
        size = len(record)
        try:
            while record:  # a write may be short, e.g. on a full disk
                record = record[self._file.write(record) :]
        except OSError:
            self._file.truncate(self._size)
            raise
        self._size += size

    def sync(self) -> None:
        """Make what was appended survive a power cut, too; does nothing once closed."""
        with self._closing:
            if not self._file.closed:
                os.fsync(self._file.fileno())

    def close(self) -> None:
        """Sync and close; closing twice is harmless."""
        self.sync()
        with self._closing:
            self._file.close()
            self._lock.release()
            with contextlib.suppress(OSError):  # the writer is just looking at it
                _lock_of(self.path).unlink()


def is_abandoned(path: Path) -> bool:
    """Tell whether nobody can append to a journal any more."""
    return not lifeline.is_held(_lock_of(path))


def _lock_of(path: Path) -> Path:
    return path.with_suffix(".lock")


class JournalReader:
    """The reading end: gives each record once, as it comes. Any number may read at a time."""

    def __init__(self, path: Path):
        self.path = path
        self._file: BinaryIO | None = None
        self._offset = 0
        self._block = BLOCK

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Give the whole records that have arrived since the last look."""
        if self._file is None:
            self._file = open(self.path, "rb")
        while True:
            self._file.seek(self._offset)  # of the last whole record: a torn one is read again
            data = self._file.read(self._block)
            unpacker = _unpacker()
            unpacker.feed(data)
            start = self._offset
            for record in unpacker:
                if not _is_record(record):
                    raise ValueError(
                        f"{self.path} is damaged at byte {self._offset}: {str(record)[:80]!r} is "
                        "no document. What comes before it is safe"
                    )
                self._offset = start + unpacker.tell()
                yield record
            if len(data) < self._block:
                return
            if self._offset == start:
                self._block *= 2  # a record larger than the block

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


def pack(name: str, document: Document) -> bytes:
    """Serialise one record.

    Raises:
        TypeError: the document holds something that is neither plain data nor numpy.
    """
    try:
        packed: Any = msgpack.packb([name, document], default=_to_plain, use_bin_type=True)
    except (TypeError, ValueError, OverflowError) as exc:
        raise TypeError(f"this {name} document cannot be kept: {exc}") from exc
    return packed


def _is_record(record: Any) -> bool:
    return (
        isinstance(record, list)
        and len(record) == 2
        and isinstance(record[0], str)
        and isinstance(record[1], dict)
    )


def _unpacker() -> Any:
    return msgpack.Unpacker(
        ext_hook=_from_extension,
        object_pairs_hook=_to_dict,
        raw=False,
        strict_map_key=False,
        max_buffer_size=0,
    )


def _to_dict(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    try:
        return dict(pairs)
    except TypeError:  # a key was a tuple once, and is a list now
        return {str(key): value for key, value in pairs}


def _to_plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind not in "OV":
        fields = [value.dtype.str, list(value.shape), np.ascontiguousarray(value).tobytes()]
        return msgpack.ExtType(_ARRAY, msgpack.packb(fields, use_bin_type=True))
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return list(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(
        f"a document may hold plain data and numpy arrays, not {type(value).__name__} {value!r}"
    )


def _from_extension(code: int, data: bytes) -> Any:
    if code != _ARRAY:
        raise ValueError(f"unknown msgpack extension {code} in a journal: written by a newer one?")
    dtype, shape, raw = msgpack.unpackb(data, raw=False)
    return np.frombuffer(raw, dtype=dtype).reshape(shape).copy()
