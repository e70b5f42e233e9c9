"""The growing file of one detector's frames in one run."""

from __future__ import annotations

import os
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from bluesky_em.documents import DATASET
from bluesky_em.errors import FrameMismatch
from bluesky_em.files.atomic import whole_file
from bluesky_em.files.map_rows import MapRows
from bluesky_em.frame import Frame

from ._raw_bytes import checksum_of_rows
from ._repair import repair
from ._scan_datasets import GROUP, ScanDatasets, create_scan, scan_names
from ._structure import Structure

FRAMES = "/entry/frames"
_CHUNK_BYTES = 1 << 19  # several spectra share a chunk of about this size; an image has its own
ABSENT = -1  # in /entry/frames/number: this row has no frame
COLUMNS = {
    # dtype, one value per dimension?, fill value
    "number": ("<i8", False, ABSENT),
    "time": ("<f8", False, np.nan),
    "checksum": ("<u4", False, 0),
    "axis_offset": ("<f8", True, np.nan),
    "axis_scale": ("<f8", True, np.nan),
}
"""The columns of /entry/frames, one value per row."""


class ForeignFile(ValueError):
    """A file holds the frames of another owner."""


class FramesFile:
    """An HDF5 file with one growing dataset of shape `(frames, *frame)`, as NXdata.

    The points of a map are rows, too, but the dataset has the shape `(lines, points, *frame)`. It
    has all lines of a pass over the map at once; `taken` says which points were taken.

    Any process may read it while it grows (SWMR). The axes of `/entry/data` are those of the first
    frame; the calibration, number, checksum and time of each frame (in a fly scan, the end of its
    block) are in `/entry/frames`. A row whose frame was lost has the fill value (NaN, or 0 for
    integers) and number -1.

    Opening the file of a killed writer repairs it and continues behind its rows.

    Args:
        path: the file; created, with its folders, if absent.
        first: the frame that decides shape, dtype and axes.

    Raises:
        FrameMismatch: the file exists, but is an update file.
        ForeignFile: the file exists, but has another owner.
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
        self._points = first.points
        self._pixels = self._rows_of(DATASET)
        self._scan = ScanDatasets(self._file, first) if first.points else None
        columns = [c for c in COLUMNS if first.axes or not c.startswith("axis")]
        self._rows = {name: self._dataset(f"{FRAMES}/{name}") for name in columns}
        # unbuffered: a buffer would keep bytes from before a flush
        self._plain = open(path, "r+b", buffering=0)
        self._structure = Structure(self._file, self._plain)

    def write(self, frame: Frame, pixels: np.ndarray) -> None:
        """Write a frame, or the frames of a block, to their rows; repeating it changes nothing.

        Args:
            frame: the frame or block; it decides the rows.
            pixels: shape `(frame.count, *frame.shape)`, or `frame.shape` for a single frame.

        Raises:
            FrameMismatch: its shape or dtype is not that of this file.
        """
        own = self._pixels.shape[1:], self._pixels.dtype
        if (frame.shape, np.dtype(frame.dtype)) != own:
            raise FrameMismatch(
                f"{frame.reference} has shape {frame.shape} and dtype {frame.dtype}, but "
                f"{self.path} holds frames of {own[0]} and {own[1].str}"
            )
        self.extend(frame.end_row)
        rows = slice(frame.rows.start, frame.rows.stop)
        pixels = pixels.reshape(frame.count, *frame.shape)
        self._pixels[rows] = pixels
        self._rows["number"][rows] = np.arange(frame.number, frame.number + frame.count)
        self._rows["time"][rows] = frame.ended
        self._rows["checksum"][rows] = [zlib.crc32(each.data) for each in pixels]
        if frame.axes:
            self._rows["axis_offset"][rows] = [axis.offset for axis in frame.axes]
            self._rows["axis_scale"][rows] = [axis.scale for axis in frame.axes]
        if self._scan is not None:
            self._scan.write(frame)

    def extend(self, rows: int) -> None:
        """Grow to at least `rows` rows; new rows have the fill value."""
        if self._scan is not None:
            self._scan.extend(rows)
        for dataset in (self._pixels, *self._rows.values()):
            if dataset.shape[0] < rows:
                dataset.resize(rows, axis=0)

    def flush(self) -> None:
        """Flush what was written: visible to readers, safe against a kill and a power cut."""
        self._file.flush()
        os.fsync(self._plain.fileno())

    def holds(self, frame: Frame) -> bool:
        """Check whether a frame is in its row, flushed, byte for byte."""
        rows = frame.rows
        if rows.stop > self._pixels.shape[0]:
            return False
        numbers = self._rows["number"][rows.start : rows.stop]
        if not np.array_equal(numbers, np.arange(frame.number, frame.number + frame.count)):
            return False
        if frame.flown:  # then each row has the checksum from the spool
            own = self._rows["checksum"][rows.start : rows.stop]
            return all(self.checksum(range(r, r + 1)) == c for r, c in zip(rows, own, strict=True))
        return self.checksum(rows) == frame.checksum

    def describe(self, frame: Frame) -> Frame:
        """Add the checksum and time to a frame of a fly scan, whose documents lack them."""
        if not frame.flown:
            return frame
        ended = float(self._rows["time"][frame.row])
        return replace(frame, checksum=self.checksum(frame.rows), ended=ended)

    def checksum(self, rows: range) -> int:
        """Compute the CRC-32 of flushed rows from the bytes of the file, without HDF5."""
        pixels, points = self._dataset(DATASET), self._points or 1
        checksum = checksum_of_rows(pixels, self._plain, rows, points)
        if checksum is None:
            first, last = rows.start, rows.stop - 1
            raise OSError(f"rows {first} to {last} of {self.path} were not all written to the disk")
        return checksum

    def structure(self) -> bytes:
        """Return the structure of the file as of the last flush, for `put_back`."""
        return self._structure.read()

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

    def _rows_of(self, name: str) -> Any:
        """Return a dataset as rows of frames."""
        dataset = self._dataset(name)
        return MapRows(dataset) if self._points else dataset

    def _check_owner(self, first: Frame) -> None:
        entry = self._file["entry"].attrs
        if "updates" in entry:
            self._file.close()
            raise FrameMismatch(f"{self.path} holds one array that frames change, not frames")
        owner = entry["owner"]
        if owner != first.owner:
            self._file.close()
            raise ForeignFile(f"{self.path} holds frames of {owner}, not of {first.owner}")
        points = int(entry.get("points", 0))
        if points != first.points:
            self._file.close()
            raise FrameMismatch(
                f"{self.path} holds lines of {points} points, and {first.reference} is in a line "
                f"of {first.points} (0: frames that are no map)"
            )

    def _dataset(self, name: str) -> h5py.Dataset:
        dataset = self._file[name]
        assert isinstance(dataset, h5py.Dataset)
        return dataset


def _create(path: Path, first: Frame) -> None:
    """Create the empty file under another name first: a file with the right name is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part, h5py.File(part, "w", libver="latest") as file:
        file.attrs["NX_class"] = "NXroot"
        file.attrs["default"] = "entry"
        entry = file.create_group("entry")
        entry.attrs.update(NX_class="NXentry", default="data", owner=first.owner)
        if first.points:
            entry.attrs["points"] = first.points
        entry["title"] = f"{first.detector} in run {first.run}, stream {first.stream}"
        entry["entry_identifier_uuid"] = first.run
        _create_data(file.create_group(GROUP), first)
        _create_rows(file.create_group(FRAMES), len(first.shape))


def _create_data(group: h5py.Group, first: Frame) -> None:
    group.attrs.update(NX_class="NXdata", signal="data")
    of_event = (first.points,) if first.points else ()
    event = *of_event, *first.shape
    dtype = np.dtype(first.dtype)
    size = max(1, int(np.prod(event)) * dtype.itemsize)
    rows = max(1, _CHUNK_BYTES // size)
    group.create_dataset(
        "data",
        shape=(0, *event),
        maxshape=(None, *event),
        chunks=(min(rows, 64 if size > 1024 else 4096), *event),
        dtype=dtype,
        fillvalue=np.nan if dtype.kind == "f" else 0,
    )
    names = [*scan_names(first)] if first.points else ["."]
    if first.points:
        create_scan(group, first)
    for axis in first.axes:
        group[axis.name] = axis.values
        group[axis.name].attrs["units"] = axis.units
        names.append(axis.name)
    group.attrs["axes"] = names
    for index, name in enumerate(names):
        if name != ".":
            group.attrs[f"{name}_indices"] = index


def _create_rows(group: h5py.Group, dimensions: int) -> None:
    group.attrs["NX_class"] = "NXcollection"
    for name, (dtype, calibration, fill) in COLUMNS.items():
        if calibration and not dimensions:
            continue  # a frame of one number has no axes
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
