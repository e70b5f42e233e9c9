"""A run that is followed where the storage folder is at hand: no Tiled, no network.

Journal and ledger tell all; a point comes as soon as its frames are in their files.
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

from bluesky_em import documents
from bluesky_em.axes import Axis
from bluesky_em.files import journal_reader
from bluesky_em.files.hdf5 import FramesReader
from bluesky_em.files.journal import is_abandoned
from bluesky_em.files.journal_reader import JournalReader
from bluesky_em.files.layout import Layout
from bluesky_em.files.ledger import Ledger
from bluesky_em.frame import Frame
from bluesky_em.reference import ReferenceState

from .._stored_frame import StoredFrame
from ._bookmark import lost_bookmark
from ._point import End, Point, follow_each_other, reference_of

logger = logging.getLogger(__name__)

LOOK = 0.01  # seconds between two looks at journal and ledger
REST = 0.1  # seconds between two looks where nothing goes on
BATCH = 500  # points that are looked at, and given, at a time
ABANDONED = 0.5  # seconds without a document, after which its process may have died
SELDOM = 1.0  # seconds between two looks for new runs, where the folder says of none
QUIET = 2.0  # seconds without a document, after which nothing goes on

_Stages = Mapping[str, tuple[ReferenceState, str]]
"""stage and reason of references, as the ledger gives them"""


@dataclass(kw_only=True)
class _Stream:
    """One stream as the documents tell it."""

    name: str
    waiting: deque[tuple[Mapping[str, Any], dict[str, str]]] = field(default_factory=deque)
    """events that have not been given, and the references in them"""
    flown: dict[str, deque[str]] = field(default_factory=dict)
    """references of frames that have not been given, by detector that flies"""
    given: int = 0


class FolderRun:
    """One run in a storage folder as it grows.

    Args:
        layout: the folder.
        ledger: its ledger, to read.
        run: its uid; it may be yet to come.
        streams: to follow; None: all.
        open: gives a stored frame.
    """

    def __init__(
        self, layout: Layout, ledger: Ledger, run: str, streams: tuple[str, ...] | None,
        open: Callable[[str], StoredFrame],  # noqa: A002
    ):  # fmt: skip
        self.run = run
        self.start: Mapping[str, Any] | None = None
        """its start document; None until the run has begun"""
        self.end: End | None = None
        """how it ended, once all its points have been given"""
        self._layout = layout
        self._path = layout.journal_of(run)
        self._ledger = ledger
        self._wanted = streams
        self._open = open
        self._reader: JournalReader | None = None
        self._stop: Mapping[str, Any] | None = None
        self._streams: dict[str, _Stream] = {}
        self._descriptors: dict[str, _Stream] = {}
        self._resources: set[str] = set()
        self._datums: set[str] = set()
        self._flights: dict[str, documents.Document] = {}
        self._heard = self._moved = time.monotonic()
        self._closed = False

    def collect(self, timeout: float) -> list[Point]:
        """Give the points that have become ready, in order; wait up to `timeout` s for them."""
        deadline = time.monotonic() + timeout
        while True:
            abandoned = self._is_quiet(ABANDONED) and is_abandoned(self._path)
            self._read()
            over = self._stop is not None or abandoned
            points = [p for stream in self._streams.values() for p in self._ready(stream, over)]
            waiting = any(s.waiting or any(s.flown.values()) for s in self._streams.values())
            if points or not waiting:
                self._moved = time.monotonic()
            if over and not waiting:
                self._finish()
            if points or self.end is not None or self._closed or time.monotonic() >= deadline:
                return points
            stuck = time.monotonic() - self._moved > QUIET  # e.g. no writer is there
            time.sleep(REST if stuck or self._is_quiet(QUIET) else LOOK)

    def read(self, points: Sequence[Point], detector: str) -> np.ndarray:
        """Read the frames of points of one stream, shape `(points, *frame)`, from their file."""
        frame = self._frame(points[0], detector)
        if frame.update is not None or not follow_each_other(points):
            return np.stack([point.open(detector).read() for point in points])
        with FramesReader(self._layout.root / frame.path) as file:
            return file.read((slice(frame.row, frame.row + len(points)),))

    def axes(self, point: Point, detector: str) -> tuple[Axis, ...]:
        """Give the axes of a point's frame."""
        return self._frame(point, detector).axes

    def close(self) -> None:
        """Close the journal, also under a thread that reads it; closing twice is harmless."""
        self._closed = True
        if self._reader is not None:
            self._reader.close()

    def _frame(self, point: Point, detector: str) -> Frame:
        entry = self._ledger.find(point.references[detector])
        assert entry is not None, "a point is given once its frames are stored"
        return entry.frame

    def _is_quiet(self, seconds: float) -> bool:
        """Tell whether the run has begun, not stopped, and said nothing for so long."""
        begun = self.start is not None and self._stop is None
        return begun and time.monotonic() - self._heard > seconds

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
                self._heard = time.monotonic()
                self._take(name, document)
        except ValueError:
            if not self._closed:
                raise

    def _take(self, name: str, document: documents.Document) -> None:
        if name == "start":
            self.start = document
        elif name == "stop":
            self._stop = document
        elif name == "descriptor":
            self._describe(document)
        elif name == "resource" and documents.is_ours(document):
            self._resources.add(document["uid"])
        elif name == "stream_resource" and documents.is_ours_flown(document):
            self._flights[document["uid"]] = document
        elif name == "stream_resource":  # other packages' frames are not waited for
            for stream in self._streams.values():
                stream.flown.pop(document["data_key"], None)
        elif name == "stream_datum" and document["stream_resource"] in self._flights:
            self._take_flown(document)
        for datum in documents.datums(name, document):
            if datum["resource"] in self._resources:
                self._datums.add(datum["datum_id"])
        for event in documents.events(name, document):
            stream = self._descriptors[event["descriptor"]]
            ours = {
                key: value
                for key, value in event["data"].items()
                if isinstance(value, str) and value in self._datums
            }
            self._datums.difference_update(ours.values())
            if self._is_wanted(stream.name):
                stream.waiting.append((event, ours))

    def _describe(self, descriptor: documents.Document) -> None:
        name = descriptor["name"]
        stream = self._streams.setdefault(name, _Stream(name=name))
        self._descriptors[descriptor["uid"]] = stream
        for key, about in descriptor["data_keys"].items():
            if about.get("external") == "STREAM:":
                stream.flown.setdefault(key, deque())

    def _take_flown(self, datum: documents.Document) -> None:
        flight = self._flights[datum["stream_resource"]]
        stream = self._descriptors[datum["descriptor"]]
        if self._is_wanted(stream.name):
            base = flight["parameters"]["base"]
            stream.flown.setdefault(flight["data_key"], deque()).extend(
                f"{base}/{number}" for number in documents.numbers(flight, datum)
            )

    def _is_wanted(self, stream: str) -> bool:
        return self._wanted is None or stream in self._wanted

    def _ready(self, stream: _Stream, over: bool) -> Iterator[Point]:
        first = islice(stream.waiting, BATCH)
        references = [ref for _, ours in first for ref in ours.values()]
        stages = self._ledger.stages(references)
        for _ in range(min(BATCH, len(stream.waiting))):
            event, ours = stream.waiting[0]
            if not _have_ended(ours, stages):
                return
            stream.waiting.popleft()
            data = {k: v for k, v in event["data"].items() if k not in event.get("filled", {})}
            yield self._point(
                stream, ours, stages, seq_num=event["seq_num"], time=event["time"], data=data
            )
        yield from self._ready_flown(stream, over)

    def _ready_flown(self, stream: _Stream, over: bool) -> Iterator[Point]:
        """Give points of which every detector has its frame; at the end, those that some have."""
        flown = {detector: stream.flown[detector] for detector in sorted(stream.flown)}
        count = (max if over else min)(map(len, flown.values()), default=0)
        count = min(count, BATCH)
        stages = self._ledger.stages([r for refs in flown.values() for r in islice(refs, count)])
        for _ in range(count):
            ours = {detector: references[0] for detector, references in flown.items() if references}
            if not _have_ended(ours, stages):
                return
            for detector in ours:
                flown[detector].popleft()
            number = stream.given + 1
            yield self._point(stream, ours, stages, seq_num=number, time=math.nan, data={})

    def _point(self, stream: _Stream, ours: dict[str, str], stages: _Stages, **event: Any) -> Point:
        failed = {key: stages[ref][1] for key, ref in ours.items() if stages[ref][1]}
        stream.given += 1
        return Point(
            run=self.run, stream=stream.name, index=stream.given - 1, references=ours,
            failed=failed, _open=lambda key: self._open(reference_of(key, ours, failed)), **event,
        )  # fmt: skip


class FolderRuns:
    """The runs in a storage folder, in the order in which they began.

    Args:
        layout: the folder.
        last: how many of those that are there already come first.
        since: instead, those that began since then, s since the epoch.
        at: instead, all from this run on.

    Raises:
        UnknownReference: that run is not there.
    """

    def __init__(self, layout: Layout, *, last: int = 0, since: float | None = None, at: str = ""):
        self._layout = layout
        self._begun: dict[Path, tuple[float, str]] = {}
        self._damaged: set[Path] = set()
        self._stamp, self._look_at = 0, 0.0
        there = self._look()
        first = max(0, len(there) - last)
        if since is not None:
            first = sum(began < since for began, _ in self._begun.values())
        if at:
            if at not in there:
                raise lost_bookmark(at)
            first = there.index(at)
        self._known = set(there[:first])

    def collect(self, timeout: float) -> list[str]:
        """Give the uids of runs that have come; wait up to `timeout` s for one."""
        deadline = time.monotonic() + timeout
        while True:
            new = [uid for uid in self._look() if uid not in self._known] if self._changed() else []
            self._known.update(new)
            if new or time.monotonic() >= deadline:
                return new
            time.sleep(REST)

    def close(self) -> None:
        """Nothing to let go of."""

    def _changed(self) -> bool:
        """Tell whether to look: the folder has changed, or it is time to (its stamp is coarse)."""
        stamp, now = self._layout.journal.stat().st_mtime_ns, time.monotonic()
        if stamp == self._stamp and now < self._look_at:
            return False
        self._stamp, self._look_at = stamp, now + SELDOM
        return True

    def _look(self) -> list[str]:
        for path in self._layout.journals():
            if path not in self._begun and path not in self._damaged:
                try:
                    start = next(
                        (d for name, d in journal_reader.head(path) if name == "start"), None
                    )
                except ValueError as exc:  # one run's journal must not keep the others'
                    self._damaged.add(path)
                    logger.warning("a run is passed over: %s", exc, extra={"action": "follow"})
                    continue
                if start is not None:
                    self._begun[path] = (start["time"], start["uid"])
        return [uid for _, uid in sorted(self._begun.values())]


def _have_ended(references: Mapping[str, str], stages: _Stages) -> bool:
    """Tell whether all frames of a point are stored, or have failed."""
    return all(
        ref in stages and stages[ref][0] is not ReferenceState.CAPTURED
        for ref in references.values()
    )
