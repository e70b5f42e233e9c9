"""Followers, which iterate over the points of a run, and over runs as they begin."""

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

from .._tiled_connection import answers_until
from ._bookmark import Bookmark
from ._point import End, Point

logger = logging.getLogger(__name__)

COLLECT_TIMEOUT = 0.5  # seconds that one request to a source may wait
RETRY_INTERVAL = 1.0  # seconds, while a source is away
LATEST_ONLY_REASON = "latest_only"


class RunSource(Protocol):
    """A run as it grows."""

    run: str
    start: Mapping[str, Any] | None
    end: End | None

    def collect(self, timeout: float) -> list[Point]:
        """Return the points that have become ready; wait up to `timeout` s for them."""
        ...

    def read(self, points: Sequence[Point], detector: str) -> NDArray:
        """Read the frames of points of one stream, shape `(points, *frame)`."""
        ...

    def axes(self, point: Point, detector: str) -> tuple[Axis, ...]:
        """Return the axes of a point's frame, which must not have failed."""
        ...

    def scan(self, point: Point, detector: str) -> tuple[Axis, ...]:
        """Return the axes (y, x) of the map that a point's frame belongs to; empty if none."""
        ...

    def close(self) -> None:
        """Close files and connections."""
        ...


class RunsSource(Protocol):
    """Runs as they begin."""

    def collect(self, timeout: float) -> list[str]:
        """Return the uids of runs that have begun; wait up to `timeout` s for one."""
        ...

    def close(self) -> None:
        """Close files and connections."""
        ...


class RunFollower:
    """The points of one run, in order, each once it can be read; ends with the run.

    Usage:
        with data.follow(run_uid) as points:
            for point in points:
                point.data["eels-total"], point.references["eels"], point.open("eels").read()
        points.end.reason

    Requesting the next point marks the last one as done. At its end the context manager closes a
    follower that has not reached the end of the run.

    Args:
        source: of the points.
        streams: their names; with more than one, points of the same index come together.
        latest_only: return the newest point; its `skipped` counts those that were left out.
        patience: s without anything new, after which `NotReady` is raised.
        trouble: errors of the source while it is away.
        bookmark: records which points are done.
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
        self._received: dict[str, int] = {}
        self._away = ""
        self._returned: tuple[Point, ...] = ()
        self._closed = False

    @property
    def start(self) -> Mapping[str, Any]:
        """The run's start document; waits for it.

        Raises:
            NotReady: the run has not begun within `patience` seconds.
        """
        self._await(lambda: self._source.start is not None)
        return self._source.start or {}

    @property
    def end(self) -> End | None:
        """The end of the run; None while points may still come."""
        end = self._source.end
        if end is None or self._has_next():
            return None
        unmatched = {name: len(points) for name, points in self._waiting.items() if points}
        return replace(end, missing={**end.missing, **unmatched})

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        """Return the next point; a tuple of points if several streams are followed together.

        Raises:
            NotReady: nothing new has come for `patience` seconds.
        """
        self._save_position()
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
        self._returned = tuple(
            self._take(stream, older if self._latest_only else 0) for stream in streams
        )
        return self._returned if self._together else self._returned[0]

    def batch(self, most: int) -> list[Point]:
        """Return the available points of one stream, at least one and up to `most`.

        Returns:
            An empty list at the end of the run.

        Raises:
            NotReady: nothing new has come for `patience` seconds.
        """
        assert self._together is None, "points of several streams come together"
        points = [point for point in [next(self, None)] if point is not None]
        waiting = self._waiting[points[0].stream] if points else ()
        while waiting and len(points) < most and not self._latest_only:
            points.append(waiting.popleft())
        self._returned = tuple(points)
        return points

    def read(self, points: Sequence[Point], detector: str) -> NDArray:
        """Read the frames of points of one stream, in one request if they are consecutive.

        Args:
            points: none of them has failed.
            detector: whose frames are read; they have one shape. In a run of results, the data key
                of its values.

        Returns:
            Shape `(points, *frame)`.
        """
        return self._source.read(points, detector)

    def axes(self, point: Point, detector: str) -> tuple[Axis, ...]:
        """Return the axes of a point's frame, one per dimension; it must not have failed."""
        return self._source.axes(point, detector)

    def scan(self, point: Point, detector: str) -> tuple[Axis, ...]:
        """Return the axes (y, x) of the map that a point's frame belongs to; empty if none."""
        return self._source.scan(point, detector)

    def close(self) -> None:
        """Close files and connections; closing twice is harmless."""
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
        """Return the next point of a stream after `older` others, which its `skipped` counts."""
        points = self._waiting[stream]
        skipped, reasons = 0, []
        for _ in range(older):
            skipped += 1 + points.popleft().skipped
            reasons = [LATEST_ONLY_REASON]
        point = points.popleft()
        if skipped:
            reasons += [point.reason] if point.reason else []
            point = replace(point, skipped=skipped + point.skipped, reason="; ".join(reasons))
        return point

    def _await(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self._patience
        if self._latest_only or not done():
            self._collect(0.0, deadline)
        while not (done() or self._closed):
            if self._collect(COLLECT_TIMEOUT, deadline):
                deadline = time.monotonic() + self._patience
            elif time.monotonic() > deadline:
                received = {name: f"{n} points" for name, n in self._received.items()} or "nothing"
                raise NotReady(
                    f"run {self.run}: nothing new within {self._patience:g} s, after {received}; "
                    + (self._away or "has it begun, and does its plan run? Try `bluesky-em status`")
                )

    def _collect(self, timeout: float, deadline: float) -> bool:
        """Take the points that have come; return whether there were any."""
        try:
            with answers_until(deadline):
                points = self._source.collect(timeout)
            self._away = ""
        except self._trouble as exc:
            self._away = f"the source of its points does not answer: {exc}"
            time.sleep(min(RETRY_INTERVAL, timeout))
            return False
        for point in points:
            self._add(point)
        return bool(points)

    def _add(self, point: Point) -> None:
        stream = point.stream
        lost = point.seq_num - self._seq_num.get(stream, 0) - 1
        self._seq_num[stream] = point.seq_num
        self._received[stream] = point.index + 1
        if self._bookmark is not None and point.index < self._bookmark.done(self.run, stream):
            return
        if lost > 0:  # after a pause the RunEngine may emit a number again
            reason = f"{lost} events before it are missing where the run is stored"
            logger.warning("%s/%s: %s (seq_num %d)", self.run, stream, reason, point.seq_num)
            point = replace(point, skipped=lost, reason=reason)
        self._waiting.setdefault(stream, deque()).append(point)

    def _save_position(self) -> None:
        if self._bookmark is not None:
            for stream, index in {point.stream: point.index for point in self._returned}.items():
                self._bookmark.move(self.run, stream, index + 1)
        self._returned = ()


class RunsFollower:
    """Runs as they begin, followed one after the other.

    Usage:
        for run in data.follow():
            for point in run:
                ...

    Args:
        source: of the runs' uids.
        follow: creates the follower of a run.
        patience: s without a new run, after which `NotReady` is raised.
        trouble: errors of the source while it is away.
        bookmark: names the run that has been followed to its end.
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
        self._current: RunFollower | None = None

    def __iter__(self) -> Iterator[RunFollower]:
        return self

    def __next__(self) -> RunFollower:
        """Return the follower of the next run.

        Raises:
            NotReady: none has begun for `patience` seconds.
        """
        deadline, away = time.monotonic() + self._patience, ""
        while not self._runs:
            if self._closed:
                raise StopIteration
            if time.monotonic() > deadline:
                raise NotReady(f"no run has begun within {self._patience:g} s{away}")
            try:
                with answers_until(deadline):
                    uids = self._source.collect(COLLECT_TIMEOUT)
                away = ""
            except self._trouble as exc:
                away = f": their source does not answer: {exc}"
                time.sleep(RETRY_INTERVAL)
                continue
            self._runs.extend(uid for uid in uids if uid != self._done)
        self._close_current()
        self._current = self._follow(self._runs.popleft())
        return self._current

    def close(self) -> None:
        """Close files and connections and end the iteration; closing twice is harmless."""
        self._closed = True
        self._close_current()
        self._source.close()

    def __enter__(self) -> RunsFollower:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def _close_current(self) -> None:
        if self._current is not None:
            self._current.close()
