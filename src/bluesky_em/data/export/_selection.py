"""The frames to export."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import xarray

from bluesky_em.reference import Reference

from .. import Data


@dataclass(frozen=True, kw_only=True)
class Selection:
    """One detector's frames: a single one, a series of them, or a map."""

    detector: str
    array: xarray.DataArray
    """with axes and units; the first axis of a series has no calibration"""
    start: Mapping[str, Any]
    """the run's start document"""
    facts: Mapping[str, Any]
    """the driver's values about the exposures, if they are equal for all"""

    @property
    def is_spectrum(self) -> bool:
        """Whether the frames are spectra, not images."""
        return self.array.dims[-1] == "energy"

    @property
    def frame_dims(self) -> tuple[str, ...]:
        """The axes of one frame."""
        return tuple(map(str, self.array.dims[-1 if self.is_spectrum else -2 :]))


def select(
    data: Data, what: str, *, detector: str | None = None, stream: str = "primary"
) -> Selection:
    """Open the frames of a run, or of one reference.

    Args:
        data: opens them.
        what: a run's uid, or one reference.
        detector: whose frames; may be None if the stream has only one.
        stream: its name in the run.

    Raises:
        NotReady: `what` cannot be read yet.
        UnknownReference: `what` is not known.
        LookupError: the run has no such stream, or the stream no such detector.
    """
    if "/" in what:
        return _one(data, what)
    dataset = data.stream(what, stream)
    name = _detector(dataset, detector, what, stream)
    array = dataset[name]
    own = {dim: str(dim).removeprefix(f"{name}_") for dim in array.dims}
    array = array.rename({dim: short for dim, short in own.items() if dim != short})
    if array.shape[0] == 1 and array.ndim > 1 and array.dims[0] == "time":
        array = array[0]
    return Selection(
        detector=name, array=array, start=json.loads(dataset.attrs["start"]), facts=array.attrs
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
