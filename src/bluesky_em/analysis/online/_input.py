"""The input of an analysis: frames of a detector, or the values of an earlier analysis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from bluesky_em.axes import Axis
from bluesky_em.data import Point, RunFollower
from bluesky_em.files import result_columns
from bluesky_em.reference import Reference


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Frames, or values, that a function is given together."""

    references: Sequence[str]
    """of the raw frames"""
    frames: NDArray
    """shape `(frames, *frame)`"""
    axes: tuple[Axis, ...]
    """of a frame"""
    scan: tuple[Axis, ...]
    """axes (y, x) of the map that the frames belong to; empty if none"""
    points: Sequence[int]
    """index of each frame in that map"""


def input_of(follower: RunFollower, detector: str | None, first: Point) -> Frames | Values:
    """Return the input in a run that is followed.

    Args:
        follower: of the run.
        detector: whose frames; None: the only one of the run. Of a run of results, the name of
            their function, or None.
        first: a point of the run.

    Raises:
        ValueError: the choice is not clear, or the run has no such frames.
    """
    key = result_columns.value_key(follower.start)
    if not key:
        return Frames(follower, detector or _only_detector(first))
    if detector not in (None, key):
        raise ValueError(
            f"run {first.run} has results of {key}, not frames of {detector!r}: leave --detector "
            "out, or name the raw run"
        )
    if result_columns.AXES not in first.data:
        raise ValueError(
            f"run {first.run} was made by an earlier version, which did not keep the axes of "
            f"results: run {key} again on its input"
        )
    if np.ndim(first.data[key]) == 0:
        raise ValueError(
            f"run {first.run} has one number per frame, the results of {key}: no function can be "
            "run on them. Name its input, or a run whose results are spectra or images"
        )
    return Values(follower, key)


class Frames:
    """The frames of a detector.

    Args:
        follower: of the run.
        key: name of the detector.
    """

    def __init__(self, follower: RunFollower, key: str):
        self.key = key
        self.failed = 0
        """number of frames that were lost"""
        self._follower = follower
        self._scan: tuple[Axis, ...] = ()
        self._first = self._next = -1

    def read(self, points: Sequence[Point]) -> Iterator[Batch]:
        """Yield the frames of points, without frames that are lost or that newer ones replaced."""
        places = {
            point.index: self._place(point) for point in points if self.key in point.references
        }
        good = [p for p in points if p.index in places and self.key not in p.failed]
        self.failed += len(places) - len(good)

        def batch(part: Sequence[Point], axes: tuple[Axis, ...], frames: NDArray) -> Batch:
            found = [places[point.index] for point in part]
            return Batch(
                references=[point.references[self.key] for point in part], frames=frames,
                axes=axes, scan=found[0][0], points=[index for _, index in found],
            )  # fmt: skip

        def about(point: Point) -> tuple[tuple[Axis, ...], tuple[Axis, ...]]:
            return self._follower.axes(point, self.key), places[point.index][0]

        for (axes, _), group in groupby(good, key=about):
            part = [*group]
            try:
                frames = self._follower.read(part, self.key)
            except LookupError:
                for point in part:
                    with suppress(LookupError):
                        yield batch([point], axes, point.open(self.key).read()[None])
            else:
                yield batch(part, axes, frames)

    def _place(self, point: Point) -> tuple[tuple[Axis, ...], int]:
        """Return the map of a point, and its index there; a new pass begins as in `ScanMap`."""
        scan = self._follower.scan(point, self.key)
        if len(scan) != 2:
            return (), 0
        number = Reference.parse(point.references[self.key]).number
        is_next = number == self._next + point.skipped
        if scan != self._scan or not is_next or number - self._first >= scan[0].size * scan[1].size:
            self._scan, self._first = scan, number
        self._next = number + 1
        return scan, number - self._first


class Values:
    """The values in a run of results, which stand in the place of frames.

    Args:
        follower: of the run.
        key: data key of the values.
    """

    failed = 0

    def __init__(self, follower: RunFollower, key: str):
        self.key = key
        self._follower = follower

    def read(self, points: Sequence[Point]) -> Iterator[Batch]:
        """Yield the values of points."""

        def about(point: Point) -> tuple[str, str]:
            data = point.data
            return data[result_columns.AXES], data.get(result_columns.SCAN, "[]")

        for (axes, scan), group in groupby(points, key=about):
            part = [*group]
            yield Batch(
                references=[point.data[result_columns.REFERENCE] for point in part],
                frames=self._follower.read(part, self.key),
                axes=result_columns.load(axes),
                scan=result_columns.load(scan),
                points=[int(point.data.get(result_columns.POINT, 0)) for point in part],
            )


def _only_detector(point: Point) -> str:
    if len(point.references) != 1:
        raise ValueError(
            f"the points of {point.run}/{point.stream} have frames of "
            f"{', '.join(point.references) or 'no detector'}: choose a detector"
        )
    return next(iter(point.references))
