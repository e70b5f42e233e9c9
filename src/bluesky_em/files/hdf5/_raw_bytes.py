"""Reading of HDF5 files while they are written, and of their flushed bytes without HDF5."""

from __future__ import annotations

import zlib
from io import RawIOBase
from pathlib import Path

import h5py
import numpy as np


def open_to_read(path: Path) -> h5py.File:
    """Open a file of this package for reading, also while it grows."""
    try:
        return h5py.File(path, "r", libver="latest", swmr=True)
    except OSError:  # this process has it open without SWMR: it is complete
        return h5py.File(path, "r", libver="latest")


def checksum_of_rows(
    dataset: h5py.Dataset, plain: RawIOBase, rows: range, points: int = 1
) -> int | None:
    """Return the CRC-32 of the flushed bytes of some rows; None if one was never written.

    Args:
        dataset: a dataset whose chunks are whole rows, or whole lines of rows.
        plain: its file, opened unbuffered: a buffer would keep bytes from before a flush.
        rows: consecutive rows.
        points: rows of each index of the first dimension.
    """
    assert dataset.chunks is not None, "a growing dataset has chunks"
    checksum, (lines, *inner) = 0, dataset.chunks
    height = lines * points
    for first in range(rows.start // height * height, rows.stop, height):
        part = range(max(rows.start, first), min(rows.stop, first + height))
        corner = (first // points, *[0] * len(inner))
        stored = stored_rows(dataset, plain, corner, part, points)
        if stored is None:
            return None
        checksum = zlib.crc32(stored, checksum)
    return checksum


def stored_rows(
    dataset: h5py.Dataset, plain: RawIOBase, corner: tuple[int, ...], rows: range, points: int = 1
) -> bytes | None:
    """Read the bytes of some rows of the chunk that begins at `corner`; None: never written."""
    info = dataset.id.get_chunk_info_by_coord(corner)
    if info.byte_offset is None:
        return None
    inner = (dataset.chunks or ())[1:]
    size = int(np.prod(inner, dtype=np.int64)) * dataset.dtype.itemsize // points
    plain.seek(info.byte_offset + (rows.start - corner[0] * points) * size)
    return plain.read(len(rows) * size)
