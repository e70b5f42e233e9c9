"""The structure of a growing HDF5 file: all of its bytes but the values of its datasets.

A power cut may leave any part of what was written since the last fsync. Values bear that, since
each has a checksum, but HDF5 cannot open a file whose structure is of two moments, or loses rows.
So the structure is kept elsewhere as of each flush, and is put back before the file is opened
again. Then every row of that flush is where it was; later rows are written again.
"""

from __future__ import annotations

import os
import zlib
from io import RawIOBase
from pathlib import Path
from typing import Any

import h5py
import msgpack

from ._repair import repair

_LEVEL = 1  # of compression: most bytes of a structure are zeros


class Structure:
    """Reads the structure of an open file.

    Args:
        file: open for writing; it will have no other datasets than now.
        plain: the same file, opened unbuffered.
    """

    def __init__(self, file: h5py.File, plain: RawIOBase):
        self._plain = plain
        self._growing: list[Any] = []
        self._fixed: list[tuple[int, int]] = []
        file.visititems(lambda _, node: self._add(node))

    def read(self) -> bytes:
        """Return the structure as of the last flush, for `put_back`."""
        values = [*self._fixed]
        for dataset in self._growing:
            dataset.id.chunk_iter(lambda chunk: values.append((chunk.byte_offset, chunk.size)))
        size = self._plain.seek(0, os.SEEK_END)
        parts, start = [], 0
        for offset, length in sorted(values):
            if offset > start:
                parts.append((start, self._read(start, offset)))
            start = max(start, offset + length)
        parts.append((start, self._read(start, size)))
        packed: Any = msgpack.packb([size, parts])
        return zlib.compress(packed, _LEVEL)

    def _add(self, node: Any) -> None:
        if not isinstance(node, h5py.Dataset):
            return
        if node.chunks:
            self._growing.append(node)
        elif (offset := node.id.get_offset()) is not None:
            self._fixed.append((offset, node.id.get_storage_size()))

    def _read(self, start: int, stop: int) -> bytes:
        self._plain.seek(start)
        return self._plain.read(max(0, stop - start)) or b""


def put_back(path: Path, structure: bytes) -> None:
    """Restore the structure that a file had at a flush, and close it as HDF5 would.

    Only the writer of the file may call this; no process may have the file open for writing.
    """
    size, parts = msgpack.unpackb(zlib.decompress(structure))
    with open(path, "r+b") as file:
        file.truncate(size)
        for offset, data in parts:
            file.seek(offset)
            file.write(data)
    repair(path, always=True)
