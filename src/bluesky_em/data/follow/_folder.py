"""A run that is followed where the storage folder is at hand: no Tiled, no network.

Journal and ledger tell all; a point comes as soon as its frames are in their files.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ... import documents
from ...files import FramesReader
from ...journal import JournalReader, is_abandoned
from ...layout import Layout
from ...ledger import Ledger
from ...reference import Stage
from .._stored import StoredFrame
from ._point import End, Point, follow_each_other, reference_of

LOOK = 0.01  # seconds between two looks at journal and ledger
REST = 0.1  # seconds between two looks where nothing goes on
BATCH = 2000  # frames of a flight that are given at a time
ABANDONED = 0.5  # seconds without a document, after which its process may have died
QUIET = 2.0  # seconds without a document, after which nothing goes on


@dataclass(kw_only=True)
class _Stream:
    """One stream as the documents tell it."""

    name: str
    detectors: set[str] = field(default_factory=set)
    """ours that fly"""
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
        self._heard = time.monotonic()

    def collect(self, timeout: float) -> list[Point]:
        """Give the points that have become ready, in order; wait up to `timeout` s for them."""
        deadline = time.monotonic() + timeout
        while True:
            abandoned = self._is_quiet(ABANDONED) and is_abandoned(self._path)
            self._read()
            points = [p for stream in self._streams.values() for p in self._ready(stream)]
            waiting = any(s.waiting or any(s.flown.values()) for s in self._streams.values())
            if not waiting and (self._stop is not None or abandoned):
                self._finish()
            if points or self.end is not None or time.monotonic() >= deadline:
                return points
            time.sleep(REST if self._is_quiet(QUIET) and not waiting else LOOK)

    def read(self, points: Sequence[Point], detector: str) -> np.ndarray:
        """Read the frames of points of one stream, shape `(points, *frame)`, from their file."""
        first = self._ledger.find(points[0].references[detector])
        assert first is not None, "a point is given once its frames are stored"
        frame = first.frame
        if frame.update is not None or not follow_each_other(points):
            return np.stack([point.open(detector).read() for point in points])
        with FramesReader(self._layout.root / frame.path) as file:
            return file.read((slice(frame.row, frame.row + len(points)),))

    def close(self) -> None:
        """Close the journal; closing twice is harmless."""
        if self._reader is not None:
            self._reader.close()

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
        for name, document in self._reader:
            self._heard = time.monotonic()
            self._take(name, document)

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
            stream.detectors.add(flight["data_key"])
            base = flight["parameters"]["base"]
            stream.flown[flight["data_key"]].extend(
                f"{base}/{number}" for number in documents.numbers(flight, datum)
            )

    def _is_wanted(self, stream: str) -> bool:
        return self._wanted is None or stream in self._wanted

    def _ready(self, stream: _Stream) -> Iterator[Point]:
        references = [ref for _, ours in stream.waiting for ref in ours.values()]
        stages = self._ledger.stages(references)
        while stream.waiting:
            event, ours = stream.waiting[0]
            if not all(_has_ended(stages, reference) for reference in ours.values()):
                return
            stream.waiting.popleft()
            data = {k: v for k, v in event["data"].items() if k not in event.get("filled", {})}
            yield self._point(
                stream, ours, {key: stages[ref][1] for key, ref in ours.items()},
                seq_num=event["seq_num"], time=event["time"], data=data,
            )  # fmt: skip
        yield from self._ready_flown(stream)

    def _ready_flown(self, stream: _Stream) -> Iterator[Point]:
        flown = {detector: stream.flown[detector] for detector in sorted(stream.detectors)}
        count = min(map(len, flown.values()), default=0)
        if not count or stream.detectors < stream.flown.keys():
            return
        count = min(count, BATCH)
        stages = self._ledger.stages([r for refs in flown.values() for r in islice(refs, count)])
        for _ in range(count):
            ours = {detector: references[0] for detector, references in flown.items()}
            if not all(_has_ended(stages, reference) for reference in ours.values()):
                return
            for references in flown.values():
                references.popleft()
            yield self._point(
                stream, ours, {key: stages[ref][1] for key, ref in ours.items()},
                seq_num=stream.given + 1, time=math.nan, data={},
            )  # fmt: skip

    def _point(
        self, stream: _Stream, ours: dict[str, str], reasons: dict[str, str], **event: Any
    ) -> Point:
        failed = {key: reason for key, reason in reasons.items() if reason}
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
        at: instead, all from this run on, if it is there.
    """

    def __init__(self, layout: Layout, *, last: int = 0, since: float | None = None, at: str = ""):
        self._layout = layout
        self._begun: dict[Path, tuple[float, str]] = {}
        there = self._look()
        first = max(0, len(there) - last)
        if since is not None:
            first = sum(began < since for began, _ in self._begun.values())
        if at in there:
            first = there.index(at)
        self._known = set(there[:first])

    def collect(self, timeout: float) -> list[str]:
        """Give the uids of runs that have come; wait up to `timeout` s for one."""
        deadline = time.monotonic() + timeout
        while True:
            new = [uid for uid in self._look() if uid not in self._known]
            self._known.update(new)
            if new or time.monotonic() >= deadline:
                return new
            time.sleep(REST)

    def close(self) -> None:
        """Nothing to let go of."""

    def _look(self) -> list[str]:
        for path in self._layout.journal.glob("*.msgpack"):
            if path not in self._begun and (start := _start_in(path)) is not None:
                self._begun[path] = (start["time"], start["uid"])
        return [uid for _, uid in sorted(self._begun.values())]


def _start_in(path: Path) -> Mapping[str, Any] | None:
    reader = JournalReader(path)
    try:
        return next((document for name, document in reader if name == "start"), None)
    finally:
        reader.close()


def _has_ended(stages: Mapping[str, tuple[Stage, str]], reference: str) -> bool:
    return reference in stages and stages[reference][0] is not Stage.CAPTURED
