"""The frames to export."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import xarray

from bluesky_em.axes import Axis
from bluesky_em.files.result_columns import value_key
from bluesky_em.reference import Reference, base_of

from .. import Data

SHOWN_AXES_LIMIT = 5  # in an error


@dataclass(frozen=True, kw_only=True)
class Selection:
    """One detector's frames: a single one, a series of them, or a map."""

    detector: str
    array: xarray.DataArray
    """with axes and units; the first axis of a series has no calibration"""
    start: Mapping[str, Any]
    """the run's start document"""
    facts: Mapping[str, Any]
    """the driver's values about the exposures, if they are equal for all; in results, those about
    the first"""
    refusal: str = ""
    """why the frames cannot be in one file: their axes differ, so `array` has none; or empty"""

    @property
    def units(self) -> str:
        """Of the values; empty if not known, as in results."""
        return str(self.array.attrs.get("units", ""))

    @property
    def is_spectrum(self) -> bool:
        """Whether the frames are spectra, not images."""
        return self.array.dims[-1] == "energy"

    @property
    def frame_dims(self) -> tuple[str, ...]:
        """The axes of one frame."""
        return tuple(map(str, self.array.dims[-1 if self.is_spectrum else -2 :]))


def select(
    data: Data, what: str, *, detector: str | None = None, stream: str = "primary",
    rows: range | None = None,
) -> Selection:  # fmt: skip
    """Open the frames of a run, or of one reference.

    Args:
        data: opens them.
        what: a run's uid, or one reference.
        detector: whose frames; may be None if the stream has only one.
        stream: its name in the run.
        rows: of a series, the frames to take, counted from 0; None: all.

    Raises:
        NotReady: `what` cannot be read yet.
        UnknownReference: `what` is not known.
        LookupError: the run has no such stream, or the stream no such detector.
        ValueError: the frames are not a series, or it has not all those rows.
    """
    if "/" in what:
        return _one(data, what)
    dataset = data.stream(what, stream)
    name = _detector(dataset, detector, what, stream)
    array = dataset[name]
    own = {dim: str(dim).removeprefix(f"{name}_") for dim in array.dims}
    array = array.rename({dim: short for dim, short in own.items() if dim != short})
    axes = _axes_by_row(array.attrs.pop("axes_by_row", "[]"))
    if rows is not None:
        array = _rows(array, name, rows)
        axes = _within(axes, rows)
    refusal = _refusal(name, axes, base_of(what, name)) if len(axes) > 1 else ""
    if refusal:
        array = array.drop_vars({axis.name for axis in axes[0][1]} & set(array.coords))
    elif axes:
        array = _with_axes(array, axes[0][1])
    if array.shape[0] == 1 and array.ndim > 1 and array.dims[0] == "time":
        array = array[0]
    start = json.loads(dataset.attrs["start"])
    facts = start.get("exposure", {}) if value_key(start) == name else {}
    return Selection(
        detector=name, array=array, start=start, facts={**facts, **array.attrs}, refusal=refusal
    )


_AxesByRow = list[tuple[int, tuple[Axis, ...]]]
"""the rows where the axes change, and the axes from there on"""


def _axes_by_row(text: str) -> _AxesByRow:
    changes = json.loads(text)
    return [(change["row"], tuple(map(Axis.load, change["axes"]))) for change in changes]


def _within(axes: _AxesByRow, rows: range) -> _AxesByRow:
    """Return the axes of some rows; the first entry is that of their first row."""
    before = [each for row, each in axes if row <= rows.start]
    after = [(row, each) for row, each in axes if row in rows and row > rows.start]
    return [(rows.start, before[-1]), *after] if before else []


def _rows(array: xarray.DataArray, detector: str, rows: range) -> xarray.DataArray:
    count, dim = array.shape[0], array.dims[0]
    if dim not in ("time", "frame"):
        raise ValueError(f"the frames of {detector!r} are no series: export them as a whole")
    if not 0 <= rows.start < rows.stop <= count:
        raise ValueError(
            f"rows {rows.start}:{rows.stop} are not in the series of {detector!r}, which has "
            f"{count} frames: give the first and the one after the last, e.g. 0:{count}"
        )
    return array[rows.start : rows.stop]


def _with_axes(array: xarray.DataArray, axes: tuple[Axis, ...]) -> xarray.DataArray:
    """Return frames with these axes instead of those of the stream's first frame."""
    array.attrs.pop("note", None)
    return array.assign_coords(
        {a.name: (a.name, a.values, {"units": a.units}) for a in axes if a.name in array.dims}
    )


def _refusal(detector: str, axes: _AxesByRow, base: str) -> str:
    shown = [f"from row {row} on {_described(each)}" for row, each in axes[:SHOWN_AXES_LIMIT]]
    if len(axes) > SHOWN_AXES_LIMIT:
        shown.append(f"and {len(axes) - SHOWN_AXES_LIMIT} more changes")
    first, stop = axes[0][0], axes[1][0]
    return (
        f"the frames of {detector!r} have different axes, so one file would give most of them a "
        f"wrong one: {'; '.join(shown)}. Export rows of one axis, e.g. `--rows {first}:{stop}`, or "
        f"one reference, e.g. {base}/<number>"
    )


def _described(axes: tuple[Axis, ...]) -> str:
    return " and ".join(
        f"{axis.name} {axis.values[0]:g} to {axis.values[-1]:g} {axis.units}".strip()
        for axis in axes
    )


def _one(data: Data, reference: str) -> Selection:
    frame = data.open(reference)
    return Selection(
        detector=Reference.parse(reference).detector,
        array=frame.to_xarray(),
        start=frame.metadata["start"],
        facts=frame.metadata.get("frame", {}),
    )


def _detector(dataset: xarray.Dataset, asked: str | None, run: str, stream: str) -> str:
    there: list[str] = dataset.attrs["detectors"]
    if asked is None and len(there) == 1:
        return there[0]
    if asked in there:
        return str(asked)
    if not there:
        raise LookupError(f"stream {stream!r} of run {run} has no frames of our detectors")
    wanted = f"no detector {asked!r}" if asked else "several detectors"
    raise LookupError(
        f"stream {stream!r} of run {run} has {wanted}; give --detector, one of: {', '.join(there)}"
    )
