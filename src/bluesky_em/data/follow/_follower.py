"""Followers: the points of a run as they become ready, and runs as they begin."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Protocol

from numpy.typing import NDArray

from bluesky_em.axes import Axis
from bluesky_em.errors import NotReady

from ._bookmark import Bookmark
from ._point import End, Point

logger = logging.getLogger(__name__)

LOOK = 0.5  # seconds that a source may be waited for at a time
AWAY = 1.0  # seconds until a source that is away is asked again
DROPPED = "latest_only"


class RunSource(Protocol):
    """A run as it grows."""

    run: str
    start: Mapping[str, Any] | None
    end: End | None

    def collect(self, timeout: float) -> list[Point]:
        """Give the points that have become ready; wait up to `timeout` s for news."""
        ...

    def read(self, points: Sequence[Point], detector: str) -> NDArray:
        """Read the frames of points of one stream, one behind the other, at once."""
        ...

    def axes(self, point: Point, detector: str) -> tuple[Axis, ...]:
        """Give the axes of a point's frame, which has not failed."""
        ...

    def close(self) -> None:
        """Let go."""
        ...


class RunsSource(Protocol):
    """Runs as they come."""

    def collect(self, timeout: float) -> list[str]:
        """Give the uids of runs that have come; wait up to `timeout` s for news."""
        ...

    def close(self) -> None:
        """Let go."""
        ...


class RunFollower:
    """The points of one run, in order, each once it can be read; ends with the run.

    Usage:
        with data.follow(run_uid) as points:
            for point in points:
                point.data["eels-total"], point.references["eels"], point.open("eels").read()
        points.end.reason

    Iterating asks for the next point, and so tells that the last one is done with. A context
    manager: what was begun and not ended lets go there.

    Args:
        source: of the points.
        streams: their names; with more than one, points of the same index are given together.
        latest_only: give the newest point there is; those in between are counted in its `skipped`.
        patience: s without anything new, after which `NotReady` is raised.
        trouble: what the source raises while it is away.
        bookmark: remembers what is done.
    """

    def __init__(
        self, source: RunSource, *, streams: tuple[str, ...] | None, latest_only: bool,
        patience: float, trouble: tuple[type[Exception], ...], bookmark: Bookmark | None = None,
    ):  # fmt: skip
        self.run = source.run
        """its uid"""
        self._source = source
        self._together = streams if streams is not None and len(streams) > 1 else None
        self._latest_only = latest_only
        self._patience = patience
        self._trouble = trouble
        self._bookmark = bookmark
        self._waiting: dict[str, deque[Point]] = {}
        self._seq_num: dict[str, int] = {}
        self._heard: dict[str, int] = {}
        self._away = ""
        self._given: tuple[Point, ...] = ()
        self._closed = False

    @property
    def start(self) -> Mapping[str, Any]:
        """The run's start document; waits for it.

        Raises:
            NotReady: it has not come within `patience` seconds.
        """
        self._await(lambda: self._source.start is not None)
        return self._source.start or {}

    @property
    def end(self) -> End | None:
        """How the run ended; None while points may still come."""
        end = self._source.end
        if end is None or self._has_next():
            return None
        alone = {name: len(points) for name, points in self._waiting.items() if points}
        return replace(end, missing={**end.missing, **alone})

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        """Give the next point; a tuple of them, where several streams are followed together.

        Raises:
            NotReady: nothing new has come for `patience` seconds.
        """
        self._remember()
        if not self._closed:
            self._await(lambda: self._has_next() or self._source.end is not None)
        if not self._has_next():
            if self._bookmark is not None and self.end is not None:
                self._bookmark.move(self.run)
            self.close()
            raise StopIteration
        first = next(name for name, points in self._waiting.items() if points)
        streams = self._together or (first,)
        older = min(len(self._waiting[stream]) for stream in streams) - 1
        self._given = tuple(
            self._take(stream, older if self._latest_only else 0) for stream in streams
        )
        return self._given if self._together else self._given[0]

    def batch(self, most: int) -> list[Point]:
        """Give the points of one stream that are there, at least one and up to `most`.

        Returns:
            An empty list at the end of the run.

        Raises:
            NotReady: nothing new has come for `patience` seconds.
        """
        assert self._together is None, "points of several streams are given together"
        points = [point for point in [next(self, None)] if point is not None]
        waiting = self._waiting[points[0].stream] if points else ()
        while waiting and len(points) < most and not self._latest_only:
            points.append(waiting.popleft())
        self._given = tuple(points)
        return points

    def read(self, points: Sequence[Point], detector: str) -> NDArray:
        """Read the frames of points of one stream, all at once where they follow each other.

        Args:
            points: none of which has failed.
            detector: whose frames, all of one shape.

        Returns:
            Shape `(points, *frame)`.
        """
        return self._source.read(points, detector)

    def axes(self, point: Point, detector: str) -> tuple[Axis, ...]:
        """Give the axes of a point's frame, one per dimension; it must not have failed."""
        return self._source.axes(point, detector)

    def close(self) -> None:
        """Let go; closing twice is harmless."""
        self._closed = True
        self._source.close()

    def __enter__(self) -> RunFollower:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def _has_next(self) -> bool:
        if self._together is None:
            return any(self._waiting.values())
        return all(self._waiting.get(stream) for stream in self._together)

    def _take(self, stream: str, older: int) -> Point:
        """Take the next point of a stream but for so many older ones, and say what is left out."""
        points = self._waiting[stream]
        skipped, reasons = 0, []
        for _ in range(older):
            skipped += 1 + points.popleft().skipped
            reasons = [DROPPED]
        point = points.popleft()
        if skipped:
            reasons += [point.reason] if point.reason else []
            point = replace(point, skipped=skipped + point.skipped, reason="; ".join(reasons))
        return point

    def _await(self, done: Callable[[], bool]) -> None:
        if self._latest_only or not done():
            self._collect(0.0)
        deadline = time.monotonic() + self._patience
        while not (done() or self._closed):
            if self._collect(LOOK):
                deadline = time.monotonic() + self._patience
            elif time.monotonic() > deadline:
                given = {name: f"{n} points" for name, n in self._heard.items()} or "nothing"
                raise NotReady(
                    f"run {self.run}: nothing new within {self._patience:g} s, after {given}; "
                    + (self._away or "has it begun, and does its plan go on? `bluesky-em status`")
                )

    def _collect(self, timeout: float) -> bool:
        """Take in what has come; tell whether anything has."""
        try:
            points = self._source.collect(timeout)
            self._away = ""
        except self._trouble as exc:
            self._away = f"where it is read from is away: {exc}"
            time.sleep(min(AWAY, timeout))
            return False
        for point in points:
            self._add(point)
        return bool(points)

    def _add(self, point: Point) -> None:
        stream = point.stream
        lost = point.seq_num - self._seq_num.get(stream, 0) - 1
        self._seq_num[stream] = point.seq_num
        self._heard[stream] = point.index + 1
        if self._bookmark is not None and point.index < self._bookmark.done(self.run, stream):
            return
        if lost > 0:  # after a pause the RunEngine may emit a number again
            reason = f"{lost} events before it are not where the run is kept"
            logger.warning("%s/%s: %s (seq_num %d)", self.run, stream, reason, point.seq_num)
            point = replace(point, skipped=lost, reason=reason)
        self._waiting.setdefault(stream, deque()).append(point)

    def _remember(self) -> None:
        if self._bookmark is not None:
            for stream, index in {point.stream: point.index for point in self._given}.items():
                self._bookmark.move(self.run, stream, index + 1)
        self._given = ()


class RunsFollower:
    """Runs as they begin, each followed in its turn.

    Usage:
        for run in data.follow():
            for point in run:
                ...

    Args:
        source: of the runs' uids.
        follow: makes the follower of one.
        patience: s without a new run, after which `NotReady` is raised.
        trouble: what the source raises while it is away.
        bookmark: tells which run needs not be followed again.
    """

    def __init__(
        self, source: RunsSource, follow: Callable[[str], RunFollower], *, patience: float,
        trouble: tuple[type[Exception], ...], bookmark: Bookmark | None = None,
    ):  # fmt: skip
        self._source = source
        self._follow = follow
        self._patience = patience
        self._trouble = trouble
        self._runs: deque[str] = deque()
        self._closed = False
        self._done = bookmark.run if bookmark is not None and bookmark.ended else ""
        self._at: RunFollower | None = None

    def __iter__(self) -> Iterator[RunFollower]:
        return self

    def __next__(self) -> RunFollower:
        """Give the next run.

        Raises:
            NotReady: none has begun for `patience` seconds.
        """
        deadline = time.monotonic() + self._patience
        while not self._runs:
            if self._closed:
                raise StopIteration
            if time.monotonic() > deadline:
                raise NotReady(f"no run has begun within {self._patience:g} s")
            try:
                uids = self._source.collect(LOOK)
            except self._trouble:
                time.sleep(AWAY)
                continue
            self._runs.extend(uid for uid in uids if uid != self._done)
        self._let_go()
        self._at = self._follow(self._runs.popleft())
        return self._at

    def close(self) -> None:
        """Let go; closing twice is harmless. Whoever iterates is told that it is over."""
        self._closed = True
        self._let_go()
        self._source.close()

    def __enter__(self) -> RunsFollower:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def _let_go(self) -> None:
        if self._at is not None:
            self._at.close()
