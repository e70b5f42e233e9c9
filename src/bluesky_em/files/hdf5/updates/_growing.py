"""An HDF5 file that grows while others read it, and the checksums of its flushed bytes."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable
from itertools import product
from pathlib import Path

import h5py
import numpy as np

from bluesky_em.errors import FrameMismatch
from bluesky_em.files.atomic import whole_file
from bluesky_em.update_modes import UpdateDeclaration

from .._raw_bytes import checksum_of_rows, stored_rows
from .._repair import repair
from .._structure import Structure

CHUNK_BYTES = 1 << 19
"""About the size of a chunk that is not one whole frame."""


class GrowingFile:
    """The HDF5 file under every mode: created atomically, open in SWMR mode, repaired if torn.

    Args:
        path: the file; created, with its folders, if absent.
        declared: how the updates become one array.
        owner: the stream of the updates, `<run>/<stream>/<detector>`.
        create: creates the mode's datasets in an empty file; SWMR mode allows no new ones.

    Raises:
        FrameMismatch: the file exists, but has another owner or declaration.
    """

    def __init__(
        self,
        path: Path,
        declared: UpdateDeclaration,
        owner: str,
        create: Callable[[h5py.File, UpdateDeclaration], None],
    ):
        self.path = path
        if not path.exists():
            _create(path, declared, owner, create)
        else:
            repair(path)
        self._file = h5py.File(path, "r+", libver="latest")
        try:
            self._check("owner", owner)
            self._check("updates", json.dumps(declared.dump()))
            self._file.swmr_mode = True
        except BaseException:
            self._file.close()
            raise
        # unbuffered: a buffer would keep bytes from before a flush
        self._plain = open(path, "r+b", buffering=0)
        self._structure = Structure(self._file, self._plain)

    def dataset(self, name: str) -> h5py.Dataset:
        """Return a dataset by its path."""
        dataset = self._file[name]
        assert isinstance(dataset, h5py.Dataset)
        return dataset

    def flush(self) -> None:
        """Flush what was written: visible to readers, safe against a kill of this process."""
        self._file.flush()

    def sync(self) -> None:
        """Flush, and make what was written safe against a power cut, too."""
        self._file.flush()
        os.fsync(self._plain.fileno())

    def structure(self) -> bytes:
        """Return the structure of the file as of the last flush, for `put_back`."""
        return self._structure.read()

    def checksum(self, dataset: h5py.Dataset, start: np.ndarray, shape: np.ndarray) -> int | None:
        """Return the CRC-32 of a block's flushed bytes, read without HDF5; None: never written."""
        end = start + shape
        if np.any(end > dataset.shape):
            return None
        if not np.prod(shape):
            return zlib.crc32(b"")
        chunk = np.array(dataset.chunks)
        if not start[1:].any() and np.array_equal(shape[1:], chunk[1:]):
            rows = range(int(start[0]), int(end[0]))
            return checksum_of_rows(dataset, self._plain, rows)
        block = np.empty(tuple(shape), dataset.dtype)
        firsts = [range(a // c * c, b, c) for a, b, c in zip(start, end, chunk, strict=True)]
        for corner in product(*firsts):
            low, high = np.maximum(start, corner), np.minimum(end, corner + chunk)
            part = range(int(low[0]), int(high[0]))
            stored = stored_rows(dataset, self._plain, corner, part)
            if stored is None:
                return None
            inner = _region((low - corner)[1:], (high - low)[1:])
            rows = np.frombuffer(stored, dataset.dtype).reshape(-1, *chunk[1:])
            block[_region(low - start, high - low)] = rows[(slice(None), *inner)]
        return zlib.crc32(block.tobytes())

    @property
    def is_open(self) -> bool:
        """Whether it has not been closed."""
        return bool(self._file)

    def close(self) -> None:
        """Close the file, which anything can read then, also after a power cut.

        Closing twice is harmless.
        """
        if self._file:
            try:
                self._file.close()
                os.fsync(self._plain.fileno())
            finally:
                self._plain.close()

    def _check(self, name: str, right: str) -> None:
        found = self._file["entry"].attrs.get(name)
        if found != right:
            raise FrameMismatch(f"{self.path} has the {name} {found}, not {right}")


def grow(dataset: h5py.Dataset, end: np.ndarray) -> None:
    """Grow each axis to at least `end`; new elements have the fill value."""
    new = np.maximum(dataset.shape, end)
    if np.any(new > dataset.shape):
        dataset.resize(tuple(int(size) for size in new))


def put(dataset: h5py.Dataset, start: np.ndarray, block: np.ndarray) -> None:
    """Write a block to the indices from `start` on."""
    dataset[_region(start, np.array(block.shape))] = block


def get(dataset: h5py.Dataset, start: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Read a block through HDF5."""
    return dataset[_region(start, shape)]


def create_array(file: h5py.File, name: str, declared: UpdateDeclaration) -> None:
    """Create the dataset of an array as declared; axis 0, and each None, grow from 0."""
    shape = [size or 0 for size in declared.shape]
    file.create_dataset(
        name,
        shape=(0, *shape[1:]),
        maxshape=max_shape(declared.shape),
        chunks=chunk_shape(declared),
        dtype=declared.dtype,
        fillvalue=declared.fill,
    )


def max_shape(shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """Return HDF5's limits for a dataset with these sizes; ours are checked before.

    If only one axis grows and it is not axis 0, HDF5 2.0 returns wrong addresses of chunks.
    """
    return (None, *shape[1:]) if None in shape else shape


def chunk_shape(declared: UpdateDeclaration) -> tuple[int, ...]:
    """Return the shape of chunks of about `CHUNK_BYTES`, long on the last axes."""
    room = CHUNK_BYTES // np.dtype(declared.dtype).itemsize
    sizes: list[int] = []
    for size in reversed(declared.shape):
        sizes.insert(0, max(1, min(size or 1024, room)))
        room //= sizes[0]
    return (min(sizes[0], 64), *sizes[1:])


def _region(start: np.ndarray, shape: np.ndarray) -> tuple[slice, ...]:
    return tuple(slice(int(a), int(a + n)) for a, n in zip(start, shape, strict=True))


def _create(
    path: Path,
    declared: UpdateDeclaration,
    owner: str,
    create: Callable[[h5py.File, UpdateDeclaration], None],
) -> None:
    """Create the empty file under another name first: a file with the right name is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part, h5py.File(part, "w", libver="latest") as file:
        file.attrs.update(NX_class="NXroot", default="entry")
        entry = file.create_group("entry")
        entry.attrs.update(NX_class="NXentry", default="data", owner=owner)
        entry.attrs["updates"] = json.dumps(declared.dump())
        file.create_group("entry/data").attrs.update(NX_class="NXdata", signal="data")
        create(file, declared)
