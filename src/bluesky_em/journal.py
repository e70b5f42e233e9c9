"""The journal: every document of a run, in order, in one append-only msgpack file.

The only thing between plan and writer. One `os.write` per document, so a record is whole or torn
at the very end; readers stop at a torn tail and go on when it has been completed. numpy values
and NaN survive; nothing in a journal can execute when it is read.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import msgpack
import numpy as np

from .documents import Document

_ARRAY = 1  # msgpack extension type: [dtype, shape, bytes] of a numpy array


class Journal:
    """The writing end, owned by the RunEngine's process.

    Args:
        path: `<storage>/journal/<run uid>.msgpack`; made if absent.
    """

    def __init__(self, path: Path):
        self.path = path
        self._file = open(path, "ab", buffering=0)
        self._closing = threading.Lock()

    def append(self, name: str, document: Document) -> None:
        """Append one document; when this returns, it survives the death of any process."""
        self._file.write(pack(name, document))

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


class JournalReader:
    """The reading end: gives each record once, as it comes. Any number may read at a time."""

    def __init__(self, path: Path):
        self.path = path
        self._file: BinaryIO | None = None
        self._unpacker = _unpacker()

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Give the whole records that have arrived since the last look."""
        if self._file is None:
            self._file = open(self.path, "rb")
        self._unpacker.feed(self._file.read())
        yield from self._unpacker

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
    packed: Any = msgpack.packb([name, document], default=_to_plain, use_bin_type=True)
    return packed


def _unpacker() -> Any:
    return msgpack.Unpacker(
        ext_hook=_from_extension, raw=False, strict_map_key=False, max_buffer_size=0
    )


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
