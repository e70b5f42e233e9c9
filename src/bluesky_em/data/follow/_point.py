"""What a follower is given: points, and how the run ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bluesky_em.errors import ReferenceFailed

from .._stored_frame import StoredFrame


class Values(Mapping[str, Any]):
    """What an event says, by data key; arrays that are kept apart are read when looked at."""

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

    It comes once all it refers to can be read, or has failed.
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
    """What the event says, by data key, without references."""
    references: Mapping[str, str]
    """By detector."""
    failed: Mapping[str, str] = field(default_factory=dict[str, str])
    """Detectors whose frame is lost, and why."""
    skipped: int = 0
    """How many points of the stream before this one are not given, and ..."""
    reason: str = ""
    """... why: `latest_only`, or what has become of them."""
    _open: Callable[[str], StoredFrame] = field(repr=False, compare=False)

    def open(self, detector: str) -> StoredFrame:
        """Open a detector's frame; `.read()` gives its pixels.

        Raises:
            LookupError: the point has none of that detector, or it has no pixels of its own any
                more (see `Data.open`).
            ReferenceFailed: it is lost; the message tells why.
        """
        return self._open(detector)


@dataclass(frozen=True, kw_only=True)
class End:
    """How a run ended."""

    status: str
    """`success`, `abort` or `fail`, as in its stop document; `abandoned`: its process died, and
    there is none"""
    reason: str = ""
    """as in the stop document"""
    missing: Mapping[str, int] = field(default_factory=dict[str, int])
    """by stream, how many of its last points there were that could not be given"""


def reference_of(detector: str, references: Mapping[str, str], failed: Mapping[str, str]) -> str:
    """Give a detector's reference of a point.

    Raises:
        LookupError: it has none.
        ReferenceFailed: its frame is lost.
    """
    if detector not in references:
        there = ", ".join(references) or "no detector of bluesky-em's"
        raise LookupError(f"the point has no frame of {detector!r}; it has frames of: {there}")
    if detector in failed:
        raise ReferenceFailed(f"{references[detector]}: failed; {failed[detector]}")
    return references[detector]


def follow_each_other(points: Sequence[Point]) -> bool:
    """Tell whether points are consecutive ones."""
    return points[-1].index - points[0].index == len(points) - 1
