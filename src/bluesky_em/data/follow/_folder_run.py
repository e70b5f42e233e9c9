"""Runs that are followed in the storage folder, without Tiled or network.

Events come from the journal, the states of frames from the ledger; a point comes as soon as its
frames are in their files.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from bluesky_em.axes import Axis
from bluesky_em.documents import Document, FlyScanFrames, ReferenceTracker
from bluesky_em.files import journal_reader, result_columns
from bluesky_em.files.document_values import as_described
from bluesky_em.files.hdf5 import FramesReader
from bluesky_em.files.journal import is_abandoned
from bluesky_em.files.journal_reader import JournalReader
from bluesky_em.files.layout import Layout
from bluesky_em.files.ledger import Ledger
from bluesky_em.files.tiled.storable import storable
from bluesky_em.files.tiled.values import as_stored
from bluesky_em.frame import Frame
from bluesky_em.reference import ReferenceState

from .._stored_frame import StoredFrame
from ._bookmark import lost_bookmark
from ._point import End, Point, follow_each_other, reference_of, values_of

logger = logging.getLogger(__name__)

POLL_INTERVAL = 0.01  # seconds between two reads of journal and ledger
IDLE_POLL_INTERVAL = 0.1  # seconds, when nothing has changed for IDLE_TIMEOUT
IDLE_TIMEOUT = 2.0  # seconds
ABANDONED_TIMEOUT = 0.5  # seconds without a document until the run's process may be dead
RESCAN_INTERVAL = 1.0  # seconds between two searches for runs while the folder's time is unchanged
BATCH_LIMIT = 500  # points that are checked, and returned, together

_Stages = Mapping[str, tuple[ReferenceState, str]]
"""stage and reason by reference, from the ledger"""


@dataclass(kw_only=True)
class _Stream:
    """The points of one stream that wait for their frames."""

    name: str
    waiting: deque[tuple[Mapping[str, Any], dict[str, str]]] = field(default_factory=deque)
    """events that have not been returned, and the references in them"""
    fly_scans: dict[str, deque[str]] = field(default_factory=dict)
    """references of frames that have not been returned, by detector in a fly scan"""
    returned: int = 0
    internal: dict[str, tuple[Callable[[Any], Any], Document]] = field(default_factory=dict)
    """keys of values that are in the events, with what Tiled has of them: values, and data key"""

    def values(self, event: Document) -> dict[str, Any]:
        """Return the values of an event by key, as Tiled has them."""
        data = event["data"]
        return {
            key: as_described(stored(data.get(key)), about)
            for key, (stored, about) in self.internal.items()
        }


class FolderRun:
    """One run in a storage folder as it grows.

    Args:
        layout: the folder.
        ledger: its ledger, to read.
        run: its uid; it may begin later.
        streams: to follow; None: all.
        open: opens a stored frame.
    """

    def __init__(
        self, layout: Layout, ledger: Ledger, run: str, streams: tuple[str, ...] | None,
        open: Callable[[str], StoredFrame],  # noqa: A002
    ):  # fmt: skip
        self.run = run
        self.start: Mapping[str, Any] | None = None
        """its start document; None until the run has begun"""
        self.end: End | None = None
        """how it ended; None until all its points have been returned"""
        self._layout = layout
        self._path = layout.journal_of(run)
        self._ledger = ledger
        self._wanted = streams
        self._open = open
        self._reader: JournalReader | None = None
        self._stop: Mapping[str, Any] | None = None
        self._streams: dict[str, _Stream] = {}
        self._descriptors: dict[str, _Stream] = {}
        self._tracker = ReferenceTracker()
        self._last_document = self._last_progress = time.monotonic()
        self._closed = False

    def collect(self, timeout: float) -> list[Point]:
        """Return the points that have become ready, in order; wait up to `timeout` s for them."""
        deadline = time.monotonic() + timeout
        while True:
            abandoned = self._is_idle(ABANDONED_TIMEOUT) and is_abandoned(self._path)
            self._read()
            over = self._stop is not None or abandoned
            points = [p for stream in self._streams.values() for p in self._ready(stream, over)]
            waiting = any(s.waiting or any(s.fly_scans.values()) for s in self._streams.values())
            if points or not waiting:
                self._last_progress = time.monotonic()
            if over and not waiting:
                self._finish()
            if points or self.end is not None or self._closed or time.monotonic() >= deadline:
                return points
            stuck = time.monotonic() - self._last_progress > IDLE_TIMEOUT  # e.g. no writer runs
            idle = stuck or self._is_idle(IDLE_TIMEOUT)
            time.sleep(IDLE_POLL_INTERVAL if idle else POLL_INTERVAL)

    def read(self, points: Sequence[Point], detector: str) -> np.ndarray:
        """Read the frames of points of one stream, shape `(points, *frame)`, from their file."""
        if detector not in points[0].references:
            return values_of(points, detector)
        frame, last = self._frame(points[0], detector), self._frame(points[-1], detector)
        is_block = follow_each_other(points) and last.row - frame.row == len(points) - 1
        if frame.update is not None or not is_block:
            return np.stack([point.open(detector).read() for point in points])
        with FramesReader(self._layout.root / frame.path) as file:
            return file.read((slice(frame.row, frame.row + len(points)),))

    def axes(self, point: Point, detector: str) -> tuple[Axis, ...]:
        """Return the axes of a point's frame, or of its value in a run of results."""
        if detector not in point.references:
            return result_columns.load(point.data[result_columns.AXES])
        return self._frame(point, detector).axes

    def scan(self, point: Point, detector: str) -> tuple[Axis, ...]:
        """Return the axes (y, x) of the map that a point's frame belongs to; empty if none."""
        return self._frame(point, detector).scan

    def close(self) -> None:
        """Close the journal, even while a thread reads it; closing twice is harmless."""
        self._closed = True
        if self._reader is not None:
            self._reader.close()

    def _frame(self, point: Point, detector: str) -> Frame:
        entry = self._ledger.find(point.references[detector])
        assert entry is not None, "a point is returned when its frames are stored"
        return entry.frame

    def _is_idle(self, seconds: float) -> bool:
        """Return whether the run has begun, has not stopped, and has been idle for `seconds`."""
        begun = self.start is not None and self._stop is None
        return begun and time.monotonic() - self._last_document > seconds

    def _finish(self) -> None:
        stop = self._stop or {"exit_status": "abandoned"}
        self.end = End(status=stop["exit_status"], reason=stop.get("reason") or "")

    def _read(self) -> None:
        if self._reader is None:
            if not self._path.exists():
                return
            self._reader = JournalReader(self._path)
        try:
            for name, document in self._reader:
                self._last_document = time.monotonic()
                self._add(name, document)
        except ValueError:
            if not self._closed:
                raise

    def _add(self, name: str, document: Document) -> None:
        for event, references in self._tracker.events(name, document):
            stream = self._descriptors[event["descriptor"]]
            if self._is_wanted(stream.name):
                stream.waiting.append(({**event, "data": stream.values(event)}, references))
        is_ours = self._tracker.learn(name, document)
        frames = self._tracker.fly_scan_frames(name, document)
        if name == "start":
            self.start = document
        elif name == "stop":
            self._stop = document
        elif name == "descriptor":
            self._describe(document)
        elif name == "stream_resource" and not is_ours:  # other packages' frames are not waited for
            for stream in self._streams.values():
                stream.fly_scans.pop(document["data_key"], None)
        elif frames is not None:
            self._add_fly_scan(self._descriptors[document["descriptor"]], frames)

    def _describe(self, descriptor: Document) -> None:
        name = descriptor["name"]
        stream = self._streams.setdefault(name, _Stream(name=name))
        self._descriptors[descriptor["uid"]] = stream
        for key, about in descriptor["data_keys"].items():
            if about.get("external") == "STREAM:":
                stream.fly_scans.setdefault(key, deque())
            if "external" not in about and key not in stream.internal:
                stream.internal[key] = as_stored(about), storable(about)

    def _add_fly_scan(self, stream: _Stream, frames: FlyScanFrames) -> None:
        if self._is_wanted(stream.name):
            detector = frames.scan["data_key"]
            stream.fly_scans.setdefault(detector, deque()).extend(frames.references)

    def _is_wanted(self, stream: str) -> bool:
        return self._wanted is None or stream in self._wanted

    def _ready(self, stream: _Stream, over: bool) -> Iterator[Point]:
        first = islice(stream.waiting, BATCH_LIMIT)
        references = [ref for _, ours in first for ref in ours.values()]
        stages = self._ledger.stages(references)
        for _ in range(min(BATCH_LIMIT, len(stream.waiting))):
            event, ours = stream.waiting[0]
            if not _have_ended(ours, stages):
                return
            stream.waiting.popleft()
            yield self._point(
                stream, ours, stages, seq_num=event["seq_num"], time=event["time"],
                data=event["data"],
            )  # fmt: skip
        yield from self._ready_in_fly_scan(stream, over)

    def _ready_in_fly_scan(self, stream: _Stream, over: bool) -> Iterator[Point]:
        """Yield points with a frame of every detector; after the end, of at least one."""
        waiting = {detector: stream.fly_scans[detector] for detector in sorted(stream.fly_scans)}
        count = (max if over else min)(map(len, waiting.values()), default=0)
        count = min(count, BATCH_LIMIT)
        stages = self._ledger.stages([r for refs in waiting.values() for r in islice(refs, count)])
        for _ in range(count):
            ours = {
                detector: references[0] for detector, references in waiting.items() if references
            }
            if not _have_ended(ours, stages):
                return
            for detector in ours:
                waiting[detector].popleft()
            number = stream.returned + 1
            yield self._point(stream, ours, stages, seq_num=number, time=math.nan, data={})

    def _point(self, stream: _Stream, ours: dict[str, str], stages: _Stages, **event: Any) -> Point:
        failed = {key: stages[ref][1] for key, ref in ours.items() if stages[ref][1]}
        stream.returned += 1
        return Point(
            run=self.run, stream=stream.name, index=stream.returned - 1, references=ours,
            failed=failed, _open=lambda key: self._open(reference_of(key, ours, failed)), **event,
        )  # fmt: skip


class FolderRuns:
    """The runs in a storage folder, in the order in which they began.

    Args:
        layout: the folder.
        last: number of existing runs to begin with.
        since: begin instead with the runs since this time, s since the epoch.
        at: begin instead with this run.

    Raises:
        UnknownReference: the run `at` does not exist.
    """

    def __init__(self, layout: Layout, *, last: int = 0, since: float | None = None, at: str = ""):
        self._layout = layout
        self._begun: dict[Path, tuple[float, str]] = {}
        self._damaged: set[Path] = set()
        self._modified, self._next_search = 0, 0.0
        existing = self._search()
        first = max(0, len(existing) - last)
        if since is not None:
            first = sum(began < since for began, _ in self._begun.values())
        if at:
            if at not in existing:
                raise lost_bookmark(at)
            first = existing.index(at)
        self._known = set(existing[:first])

    def collect(self, timeout: float) -> list[str]:
        """Return the uids of runs that have begun; wait up to `timeout` s for one."""
        deadline = time.monotonic() + timeout
        while True:
            found = self._search() if self._may_have_changed() else []
            new = [uid for uid in found if uid not in self._known]
            self._known.update(new)
            if new or time.monotonic() >= deadline:
                return new
            time.sleep(IDLE_POLL_INTERVAL)

    def close(self) -> None:
        """Do nothing: no file is kept open."""

    def _may_have_changed(self) -> bool:
        """Return whether the folder's time has changed, or is too coarse to be relied on longer."""
        modified, now = self._layout.journal.stat().st_mtime_ns, time.monotonic()
        if modified == self._modified and now < self._next_search:
            return False
        self._modified, self._next_search = modified, now + RESCAN_INTERVAL
        return True

    def _search(self) -> list[str]:
        for path in self._layout.journals():
            if path not in self._begun and path not in self._damaged:
                try:
                    start = next(
                        (d for name, d in journal_reader.head(path) if name == "start"), None
                    )
                except ValueError as exc:  # a damaged journal must not hide the other runs
                    self._damaged.add(path)
                    logger.warning("a run is skipped: %s", exc, extra={"action": "follow"})
                    continue
                if start is not None:
                    self._begun[path] = (start["time"], start["uid"])
        return [uid for _, uid in sorted(self._begun.values())]


def _have_ended(references: Mapping[str, str], stages: _Stages) -> bool:
    """Return whether all frames of a point are stored, or have failed."""
    return all(
        ref in stages and stages[ref][0] is not ReferenceState.CAPTURED
        for ref in references.values()
    )
