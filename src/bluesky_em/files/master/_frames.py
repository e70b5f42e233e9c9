"""Frames of one detector as NXdata: linked, never copied."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

import h5py
import numpy as np

from bluesky_em.axes import axes_of_array
from bluesky_em.documents import DATASET
from bluesky_em.frame import Frame

from ..hdf5 import TAKEN, scan_names
from ..nexus import new_field, new_group
from ..scan_map import ScanMap

_GROUP = DATASET.rpartition("/")[0]


def add_frames(entry: h5py.Group, frames: Sequence[Frame]) -> h5py.Group:
    """Create the NXdata of one file's frames, with the file's name: `eels`, or `eels_dark`.

    Its shape is `(frames, *frame)`, or `(y, x, *frame)` where the frames form a map; points that
    were not reached read as the fill value (NaN, or 0 for integers).

    Args:
        entry: its parent; its file must be in the folder of the frames.
        frames: all of the file, by row.
    """
    first = frames[0]
    file = PurePosixPath(first.path).name
    group = new_group(entry, PurePosixPath(first.path).stem, "NXdata")
    new_field(group, "title", _title(frames, file))
    group.attrs["signal"] = "data"
    group.attrs["interpretation"] = "spectrum" if len(first.shape) == 1 else "image"
    if first.update is not None:
        _link_array(group, first, file)
        return group
    if first.points:
        group["data"] = h5py.ExternalLink(file, DATASET)
        names = _link_scan(group, frames, file)
        _link_axes(group, names, first, file)
        return group
    scan_map = ScanMap.of((frame.scan, frame.row, frame.count, frame.number) for frame in frames)
    if scan_map is None:
        group["data"] = h5py.ExternalLink(file, DATASET)
        names = ["."]
    else:
        _add_map(group, scan_map, frames, file)
        names = [new_field(group, *axis) for axis in scan_map.axes(first.axes)]
    _link_axes(group, names, first, file)
    return group


def _link_axes(group: h5py.Group, names: Sequence[str], first: Frame, file: str) -> None:
    """Link to the axes of the frames, which come behind others."""
    for axis in first.axes:
        group[axis.name] = h5py.ExternalLink(file, f"{_GROUP}/{axis.name}")
    _set_axes(group, [*names, *(axis.name for axis in first.axes)])


def _link_scan(group: h5py.Group, frames: Sequence[Frame], file: str) -> list[str]:
    """Link to lines, columns and mask of a map; return the names of its first two axes."""
    y, x = scan_names(frames[0])
    group[TAKEN] = h5py.ExternalLink(file, f"{_GROUP}/{TAKEN}")
    group[y] = h5py.ExternalLink(file, f"{_GROUP}/{y}")
    if len({frame.scan[1] for frame in frames}) > 1:
        return [y, "."]
    group[x] = h5py.ExternalLink(file, f"{_GROUP}/{x}")
    return [y, x]


def _link_array(group: h5py.Group, first: Frame, file: str) -> None:
    """Link to the one array that the frames have updated."""
    assert first.update is not None, "else frames are rows"
    dimensions = len(first.update["shape"])
    group["data"] = h5py.ExternalLink(file, DATASET)
    axes = axes_of_array(first.scan, first.axes, dimensions)
    names = [new_field(group, axis.name, axis.values, axis.units) for axis in axes]
    _set_axes(group, names or ["."] * dimensions)


def _set_axes(group: h5py.Group, names: Sequence[str]) -> None:
    group.attrs["axes"] = list(names)
    for index, name in enumerate(names):
        if name != ".":
            group.attrs[f"{name}_indices"] = index


def _add_map(group: h5py.Group, scan_map: ScanMap, frames: Sequence[Frame], file: str) -> None:
    first, last = frames[0], frames[-1]
    dtype, width = np.dtype(first.dtype), scan_map.shape[1]
    rows = last.row + last.count
    source = h5py.VirtualSource(file, DATASET, shape=(rows, *first.shape), dtype=dtype)
    layout = h5py.VirtualLayout((*scan_map.shape, *first.shape), dtype=dtype)
    line = 0
    for scan in scan_map.passes:
        whole, rest = divmod(scan.rows, width)
        end = scan.row + whole * width
        if whole:
            layout[line : line + whole] = source[scan.row : end]
        if rest:
            layout[line + whole, :rest] = source[end : end + rest]
        line += scan.y.size
    fill = np.nan if dtype.kind == "f" else 0
    group.create_virtual_dataset("data", layout, fillvalue=fill)


def _title(frames: Sequence[Frame], file: str) -> str:
    title = f"{frames[0].detector}, stream {frames[0].stream}"
    others = sum(frame.count for frame in frames if frame.axes != frames[0].axes)
    if others:
        title += f"; the axes are those of the first frame, {others} have others: see {file}"
    return title
