"""The growing file of one detector's frames in one run."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np

from ..documents import DATASET
from ..frame import Frame
from ._repair import repair

_GROUP = "/entry/data"
_FRAMES = "/entry/frames"
_CHUNK_BYTES = 1 << 19  # several spectra share a chunk of about this size; an image has its own
_ABSENT = -1  # in /entry/frames/number: this row holds no frame
_COLUMNS = {
    # dtype, one value per dimension?, fill value
    "number": ("<i8", False, _ABSENT),
    "time": ("<f8", False, np.nan),
    "checksum": ("<u4", False, 0),
    "axis_offset": ("<f8", True, np.nan),
    "axis_scale": ("<f8", True, np.nan),
}
"""What /entry/frames has of each row."""


class FramesFile:
    """An HDF5 file with one dataset of shape `(frames, *frame)` that grows, as NXdata.

    Anyone may read it while it grows (SWMR), through `/entry/data`, whose axes are those of the
    first frame; every frame's own calibration, number, time and checksum are in `/entry/frames`.
    A row whose frame was lost holds the fill value (NaN, or 0 for integers) and number -1.

    Opening one that a killed writer left behind repairs it and goes on with the rows it has.

    Args:
        path: made, with its folders, if absent.
        first: the frame that decides shape, dtype and axes.
    """

    def __init__(self, path: Path, first: Frame):
        self.path = path
        if not path.exists():
            _create(path, first)
        else:
            repair(path)
        self._file = h5py.File(path, "r+", libver="latest")
        self._check_owner(first)
        self._file.swmr_mode = True
        self._pixels = self._dataset(DATASET)
        self._rows = {name: self._dataset(f"{_FRAMES}/{name}") for name in _COLUMNS}
        self._plain = open(path, "r+b")

    def write(self, frame: Frame, pixels: np.ndarray) -> None:
        """Put a frame in its row; writing it again replaces it by the same."""
        self.extend(frame.row + 1)
        self._pixels[frame.row] = pixels
        self._rows["number"][frame.row] = frame.number
        self._rows["time"][frame.row] = frame.ended
        self._rows["checksum"][frame.row] = frame.checksum
        self._rows["axis_offset"][frame.row] = [axis.offset for axis in frame.axes]
        self._rows["axis_scale"][frame.row] = [axis.scale for axis in frame.axes]

    def extend(self, rows: int) -> None:
        """Have at least so many rows; new ones hold the fill value."""
        for dataset in (self._pixels, *self._rows.values()):
            if dataset.shape[0] < rows:
                dataset.resize(rows, axis=0)

    def flush(self) -> None:
        """Make what was written visible to readers and safe against a power cut."""
        self._file.flush()
        os.fsync(self._plain.fileno())

    def holds(self, frame: Frame) -> bool:
        """Tell whether a frame is in its row, flushed, byte for byte."""
        if frame.row >= self._pixels.shape[0] or self._rows["number"][frame.row] != frame.number:
            return False
        return self.checksum(frame.row) == frame.checksum

    def checksum(self, row: int) -> int:
        """Compute the CRC-32 of a flushed row from the file's bytes, behind HDF5's back."""
        chunk_rows, *shape = cast(tuple[int, ...], self._pixels.chunks)
        chunk = self._pixels.id.get_chunk_info_by_coord((row, *[0] * len(shape)))
        if chunk.byte_offset is None:
            raise OSError(f"row {row} of {self.path} has never been written to the disk")
        size = int(np.prod(shape, dtype=np.int64)) * self._pixels.dtype.itemsize
        self._plain.seek(chunk.byte_offset + (row % chunk_rows) * size)
        return zlib.crc32(self._plain.read(size))

    def close(self) -> None:
        """Close it for good: readable by anything from now on. Closing twice is harmless."""
        if self._file:
            try:
                self.flush()
            finally:
                self._plain.close()
                self._file.close()

    def _check_owner(self, first: Frame) -> None:
        owner = self._file["entry"].attrs["owner"]
        if owner != _owner(first):
            self._file.close()
            raise ValueError(f"{self.path} holds frames of {owner}, not of {_owner(first)}")

    def _dataset(self, name: str) -> h5py.Dataset:
        dataset = self._file[name]
        assert isinstance(dataset, h5py.Dataset)
        return dataset


class FramesReader:
    """Reads frames from a file, also while it grows.

    Args:
        path: a file of `FramesFile`.
    """

    def __init__(self, path: Path):
        try:
            self._file = h5py.File(path, "r", libver="latest", swmr=True)
        except OSError:  # somebody in this process has it open the plain way: it is complete
            self._file = h5py.File(path, "r", libver="latest")

    def read(self, row: int | tuple[slice, ...]) -> np.ndarray:
        """Read one row's pixels, shape and dtype of a frame; or a part of all rows."""
        return self._get(DATASET)[row]

    def numbers(self) -> list[int]:
        """Give the exposure number in each row; -1 where a frame was lost."""
        return [int(number) for number in self._get(f"{_FRAMES}/number")[:]]

    def row_of(self, number: int) -> int:
        """Find the row of a detector's exposure `number`.

        Raises:
            LookupError: that frame is not in this file.
        """
        rows = np.flatnonzero(self._get(f"{_FRAMES}/number")[:] == number)
        if not len(rows):
            raise LookupError(f"{self._file.filename} holds no frame with number {number}")
        return int(rows[0])

    def close(self) -> None:
        """Close; closing twice is harmless."""
        self._file.close()

    def __enter__(self) -> FramesReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _get(self, name: str) -> Any:
        return self._file[name]


def _owner(frame: Frame) -> str:
    return f"{frame.run}/{frame.stream}/{frame.detector}"


def _create(path: Path, first: Frame) -> None:
    """Make the empty file under another name first: a file with the right name is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with h5py.File(part, "w", libver="latest") as file:
        file.attrs["NX_class"] = "NXroot"
        file.attrs["default"] = "entry"
        entry = file.create_group("entry")
        entry.attrs.update(NX_class="NXentry", default="data", owner=_owner(first))
        entry["title"] = f"{first.detector} in run {first.run}, stream {first.stream}"
        entry["entry_identifier_uuid"] = first.run
        _create_data(file.create_group(_GROUP), first)
        _create_rows(file.create_group(_FRAMES), len(first.shape))
    os.replace(part, path)


def _create_data(group: h5py.Group, first: Frame) -> None:
    group.attrs.update(NX_class="NXdata", signal="data")
    group.attrs["axes"] = [".", *(axis.name for axis in first.axes)]
    dtype = np.dtype(first.dtype)
    rows = max(1, _CHUNK_BYTES // max(1, int(np.prod(first.shape)) * dtype.itemsize))
    group.create_dataset(
        "data",
        shape=(0, *first.shape),
        maxshape=(None, *first.shape),
        chunks=(min(rows, 64), *first.shape),
        dtype=dtype,
        fillvalue=np.nan if dtype.kind == "f" else 0,
    )
    for index, axis in enumerate(first.axes):
        group[axis.name] = axis.values
        group[axis.name].attrs["units"] = axis.units
        group.attrs[f"{axis.name}_indices"] = index + 1


def _create_rows(group: h5py.Group, dimensions: int) -> None:
    group.attrs["NX_class"] = "NXcollection"
    for name, (dtype, calibration, fill) in _COLUMNS.items():
        shape = (dimensions,) if calibration else ()
        group.create_dataset(
            name,
            shape=(0, *shape),
            maxshape=(None, *shape),
            chunks=(1024, *shape),
            dtype=dtype,
            fillvalue=fill,
        )
    group["time"].attrs["units"] = "s"
    group["time"].attrs["start"] = "1970-01-01T00:00:00Z"
