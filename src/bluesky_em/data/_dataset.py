"""Scalars and frames as one Dataset: labelled, calibrated, and read only when used."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import dask.array as da
import numpy as np
import xarray

from bluesky_em.axes import Axis
from bluesky_em.files.scan_map import Block, ScanMap

CHUNK_BYTES = 8 << 20  # of frames that are read together
_COORDS = ("time", "seq_num")
_EPOCH = "1970-01-01T00:00:00Z"

_Columns = Mapping[str, tuple[np.ndarray, str]]
_Axis = tuple[str, np.ndarray, str]
"""name, values, units"""


@dataclass(frozen=True, kw_only=True)
class Events:
    """A stream's scalars."""

    time: Sequence[float]
    """s since the epoch"""
    seq_num: Sequence[int]
    columns: _Columns
    """values, one per event, and their units"""


@dataclass(frozen=True, kw_only=True)
class Frames:
    """All frames of one detector in a stream."""

    detector: str
    rows: Any
    """shape `(frames, *frame)`: has `shape` and `dtype`, and slicing reads from it"""
    axes: tuple[Axis, ...]
    """of the first frame"""
    blocks: Sequence[Block]
    rows_by_axes: Sequence[tuple[range, tuple[Axis, ...]]]
    """rows in order, and their axes; empty if the frames are one array"""
    attrs: Mapping[str, Any]
    """metadata that are the same for every frame"""
    units: str = "counts"
    """of the values; empty if not known"""


def unknown_axes(shape: Sequence[int]) -> tuple[Axis, ...]:
    """Return axes that only count, for dimensions that are not calibrated."""
    return tuple(
        Axis(name=f"dim_{n}", units="", offset=0.0, scale=1.0, size=size)
        for n, size in enumerate(shape)
    )


def compose(
    events: Events, detectors: Sequence[Frames], attrs: Mapping[str, Any]
) -> xarray.Dataset:
    """Create the Dataset; see `Data.stream`."""
    arrays = {frames.detector: _array(frames) for frames in detectors}
    columns = _with_free_names(events.columns)
    taken = {*columns, *arrays, *_COORDS}
    shared = _shared([axis for _, axes in arrays.values() for axis in axes])
    variables: dict[str, Any] = {
        key: (_dims(key, values), values, {"units": units} if units else {})
        for key, (values, units) in columns.items()
    }
    coords: dict[str, Any] = {
        "time": ("time", np.asarray(events.time), {"units": "s", "start": _EPOCH}),
        "seq_num": ("time", np.asarray(events.seq_num)),
    }
    for frames in detectors:
        pixels, axes = arrays[frames.detector]
        dims: list[str] = []
        for name, values, units in axes:
            own = name if name in shared - taken else f"{frames.detector}_{name}"
            coords[own] = (own, values, {"units": units})
            dims.append(own)
        if pixels.ndim > len(axes):
            same = pixels.shape[0] == len(events.time)
            dims.insert(0, "time" if same else f"{frames.detector}_frame")
        variables[frames.detector] = (dims, pixels, _about(frames))
    return xarray.Dataset(variables, coords, {**attrs, "detectors": sorted(arrays)})


def _array(frames: Frames) -> tuple[Any, list[_Axis]]:
    """Return a detector's frames, as a map if they form one, and their axes."""
    flat = _lazy(frames.rows)
    axes = [(axis.name, axis.values, axis.units) for axis in frames.axes]
    scan_map = ScanMap.of(frames.blocks)
    if scan_map is None:
        return flat, axes
    return _as_map(flat, scan_map), scan_map.axes(frames.axes) + axes


def _lazy(rows: Any) -> Any:
    size = int(np.prod(rows.shape[1:], dtype=np.int64)) * rows.dtype.itemsize
    chunks: Any = (max(1, CHUNK_BYTES // max(1, size)), *rows.shape[1:])
    meta = np.empty((0,) * len(rows.shape), rows.dtype)
    return da.from_array(rows, chunks=chunks, name=False, meta=meta)


def _as_map(flat: Any, scan_map: ScanMap) -> Any:
    """Reshape rows into scan lines; missing points are NaN, or 0 for integers."""
    parts = []
    for scan in scan_map.passes:
        rows: Any = flat[scan.row : scan.row + scan.rows]
        if scan.missing:
            fill = np.nan if flat.dtype.kind == "f" else 0
            shape = (scan.missing, *flat.shape[1:])
            absent = da.full(shape, fill, dtype=flat.dtype, chunks=flat.chunksize)
            rows = da.concatenate([rows, absent])
        parts.append(rows.reshape(scan.y.size, scan.x.size, *flat.shape[1:]))
    return da.concatenate(parts)


def _shared(axes: Sequence[_Axis]) -> set[str]:
    """Return the names that stand for the same axis wherever they occur."""
    different = {(name, values.tobytes(), units) for name, values, units in axes}
    counts = Counter(name for name, *_ in different)
    return {name for name, count in counts.items() if count == 1}


def _with_free_names(columns: _Columns) -> _Columns:
    """Return columns whose names are not those of the coordinates."""
    free: dict[str, tuple[np.ndarray, str]] = {}
    for key, values in columns.items():
        while key in _COORDS or (key in columns and values is not columns[key]):
            key = f"{key}_"
        free[key] = values
    return free


def _dims(key: str, values: np.ndarray) -> list[str]:
    return ["time", *(f"{key}_{index}" for index in range(1, values.ndim))]


def _about(frames: Frames) -> dict[str, Any]:
    about = {**frames.attrs, **({"units": frames.units} if frames.units else {})}
    others = sum(len(rows) for rows, axes in frames.rows_by_axes if axes != frames.axes)
    if others:
        about["note"] = f"the axes are those of the first frame, {others} have others"
        about["axes_by_row"] = json.dumps(_changes(frames))
    return about


def _changes(frames: Frames) -> list[dict[str, Any]]:
    """Return the rows where the axes change, with the axes from there on."""
    changes = groupby(frames.rows_by_axes, key=itemgetter(1))
    return [
        {"row": next(rows)[0].start, "axes": [asdict(axis) for axis in axes]}
        for axes, rows in changes
    ]
