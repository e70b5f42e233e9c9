"""The datasets of a map beside its frames: lines, columns, and which points were taken."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np

from bluesky_em.files.map_rows import MapRows
from bluesky_em.frame import Frame

GROUP = "/entry/data"
TAKEN = "taken"
"""Name of the mask of a map, shape `(lines, points)`: 1 where a point was taken, else 0."""


class ScanDatasets:
    """Writes the lines of a map, and which of its points were taken.

    Args:
        file: of the frames.
        first: one of them.
    """

    def __init__(self, file: h5py.File, first: Frame):
        group: Any = file[GROUP]
        self._lines: Any = group[scan_names(first)[0]]
        self._taken = MapRows(group[TAKEN])

    def extend(self, rows: int) -> None:
        """Grow to the lines of at least `rows` rows."""
        if self._taken.shape[0] < rows:
            self._taken.resize(rows)
            self._lines.resize(self._taken.lines, axis=0)

    def write(self, frame: Frame) -> None:
        """Write where a frame's pass is, and that the frame was taken."""
        whole, lines = frame.pass_rows, frame.scan[0].values
        assert whole is not None, "these datasets are of maps"
        first = whole.start // frame.points
        self._lines[first : first + len(lines)] = lines
        self._taken[slice(frame.rows.start, frame.rows.stop)] = np.ones(frame.count, "u1")


def create_scan(group: h5py.Group, first: Frame) -> None:
    """Create the lines and columns of a map, and the mask of points that were taken."""
    (y, x), (lines, columns) = scan_names(first), first.scan
    group.create_dataset(
        y, shape=(0,), maxshape=(None,), chunks=(256,), dtype="<f8", fillvalue=np.nan
    )
    group[x] = columns.values
    group[y].attrs["units"], group[x].attrs["units"] = lines.units, columns.units
    chunks = (max(1, 4096 // first.points), first.points)
    group.create_dataset(
        TAKEN, shape=(0, first.points), maxshape=(None, first.points), chunks=chunks, dtype="u1"
    )


def scan_names(frame: Frame) -> tuple[str, str]:
    """Return the names of the lines and columns of a map; those of a frame's axes are others."""
    taken = {axis.name for axis in frame.axes}
    y, x = (f"scan_{axis.name}" if axis.name in taken else axis.name for axis in frame.scan)
    return y, x
