"""The points that a follower returns, and the end of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_em.errors import ReferenceFailed

from .._stored_frame import StoredFrame


class Values(Mapping[str, Any]):
    """The values of an event by data key; arrays stored apart from it are read when used."""

    def __init__(
        self, values: Mapping[str, Any], arrays: Mapping[str, Callable[[], Any]] | None = None
    ):
        self._values = dict(values)
        self._arrays = dict(arrays or {})

    def __getitem__(self, key: str) -> Any:
        if key not in self._values and key in self._arrays:
            self._values[key] = self._arrays[key]()
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._values, **self._arrays})

    def __len__(self) -> int:
        return len({**self._values, **self._arrays})

    def __repr__(self) -> str:
        return f"Values({ {key: self._values.get(key, '...') for key in self} })"


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of a stream: an event, or in a fly scan one frame of each of its detectors.

    It comes when all frames it refers to can be read, or have failed.
    """

    run: str
    stream: str
    index: int
    """From 0, in the order of the stream's events: the row in Tiled and in its files."""
    seq_num: int
    """As in the event; in a fly scan `index` + 1."""
    time: float
    """Of the event, s since the epoch; NaN in a fly scan, whose frames have no events."""
    data: Mapping[str, Any]
    """The event's values by data key, without references."""
    references: Mapping[str, str]
    """By detector."""
    failed: Mapping[str, str] = field(default_factory=dict[str, str])
    """The reason by detector, for detectors whose frame is lost."""
    skipped: int = 0
    """Number of points of the stream that were left out before this one."""
    reason: str = ""
    """Why they were left out: `latest_only`, or where they are missing."""
    _open: Callable[[str], StoredFrame] = field(repr=False, compare=False)

    def open(self, detector: str) -> StoredFrame:
        """Open a detector's frame; `.read()` reads its pixels.

        Raises:
            LookupError: the point has no frame of that detector, or the frame's own pixels no
                longer exist (see `Data.open`).
            ReferenceFailed: it is lost; the message gives the reason.
        """
        return self._open(detector)


@dataclass(frozen=True, kw_only=True)
class End:
    """The end of a run."""

    status: str
    """`success`, `abort` or `fail`, as in its stop document; `abandoned`: its process died before
    the stop document"""
    reason: str = ""
    """as in the stop document"""
    missing: Mapping[str, int] = field(default_factory=dict[str, int])
    """by stream, the number of its last points that could not be returned"""


def reference_of(detector: str, references: Mapping[str, str], failed: Mapping[str, str]) -> str:
    """Return the reference of a detector's frame in a point.

    Raises:
        LookupError: it has no frame of that detector.
        ReferenceFailed: its frame is lost.
    """
    if detector not in references:
        known = ", ".join(references) or "no detector of bluesky-em"
        raise LookupError(f"the point has no frame of {detector!r}; it has frames of: {known}")
    if detector in failed:
        raise ReferenceFailed(f"{references[detector]}: failed; {failed[detector]}")
    return references[detector]


def values_of(points: Sequence[Point], key: str) -> NDArray:
    """Return the arrays that events hold under a key, shape `(points, *value)`."""
    return np.stack([np.asarray(point.data[key]) for point in points])


def follow_each_other(points: Sequence[Point]) -> bool:
    """Return whether points are consecutive."""
    return points[-1].index - points[0].index == len(points) - 1
