"""The frames that must be stored, found in a run's documents."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from bluesky_em.axes import Axis
from bluesky_em.documents import Document, FlyScanFrames, ReferenceTracker
from bluesky_em.files.layout import Layout
from bluesky_em.frame import Frame


class _Tail(NamedTuple):
    """Frames of a fly scan that do not fill a block yet."""

    frames: FlyScanFrames
    descriptor: str
    """uid of the descriptor of their stream"""


class FrameFinder:
    """Find the frames of a run in its documents, in order, and where each frame belongs.

    The same documents always give the same frames, so a run may be read again at any time.
    """

    def __init__(self, layout: Layout):
        self._layout = layout
        self._start: Document = {}
        self._tracker = ReferenceTracker()
        self._placed: set[str] = set()
        self._descriptors: dict[str, Document] = {}
        self._streams: dict[str, list[str]] = {}
        self._rows: dict[str, int] = {}
        self._tails: dict[str, _Tail] = {}
        self._passes: dict[str, int] = {}

    def __call__(self, name: str, document: Document) -> list[Frame]:
        """Take the next document; return the frames it completes."""
        if name == "start":
            self._start = document
        elif name == "descriptor":
            self._descriptors[document["uid"]] = document
        found = [
            self._frame(event, key, reference)
            for event, references in self._tracker.events(name, document)
            for key, reference in references.items()
            if reference not in self._placed
        ]
        is_ours = self._tracker.learn(name, document)
        if name == "stream_resource" and is_ours:
            closed = document["parameters"].get("closes")
            # the rows of earlier fly scans come first
            return self.tails(document["data_key"]) if closed is None else self._rest(closed)
        frames = self._tracker.fly_scan_frames(name, document)
        return found if frames is None else self._blocks(frames, document["descriptor"])

    def tails(self, data_key: str | None = None) -> list[Frame]:
        """Return the rest of fly scans that ended early: the covered part of their last blocks.

        Args:
            data_key: of the detector whose fly scans are meant; None: of all detectors.
        """
        wanted = [
            uid
            for uid, tail in self._tails.items()
            if data_key in (None, tail.frames.scan["data_key"])
        ]
        tails = [self._tails.pop(uid) for uid in wanted]
        return [self._block(tail.frames, tail.descriptor) for tail in tails if tail.frames.numbers]

    def _rest(self, closed: str) -> list[Frame]:
        """Return the last block of a fly scan that ended early, unless more documents come."""
        tail, end = self._tails.get(closed), self._tracker.end_of(closed)
        if tail is None or not tail.frames.numbers or tail.frames.numbers.stop < end:
            return []
        return [self._block(self._tails.pop(closed).frames, tail.descriptor)]

    def unread(self) -> list[Frame]:
        """Return the frames whose references are in no event; their row is -1, their path empty."""
        datums = (d for d in self._tracker.unused() if d["datum_id"] not in self._placed)
        return [
            self._compose(datum, self._tracker.resource(datum)["resource_kwargs"]["detector"])
            for datum in datums
        ]

    def _frame(self, event: Document, key: str, reference: str) -> Frame:
        stream = self._descriptors[event["descriptor"]]["name"]
        self._placed.add(reference)
        return self._place(self._compose(self._tracker.datum(reference), key), stream)

    def _place(self, frame: Frame, stream: str) -> Frame:
        path = self._path(frame.detector, stream)
        # Counted, not taken from seq_num: after a pause the RunEngine may emit a number again.
        row = self._rows.get(path, 0)
        self._rows[path] = row + frame.count
        return replace(frame, stream=stream, row=row, path=path)

    def _place_in_map(self, frame: Frame, stream: str, scan: Document) -> Frame:
        """Place a block of points; each pass over a map has rows for all its points."""
        path, (lines, points) = self._path(frame.detector, stream), scan["parameters"]["map"]
        if scan["uid"] not in self._passes:
            self._passes[scan["uid"]] = self._rows.get(path, 0)
            self._rows[path] = self._passes[scan["uid"]] + lines * points
        begin = self._passes[scan["uid"]]
        metadata = {**frame.metadata, "pass": {"row": begin, "rows": lines * points}}
        row = begin + frame.number - scan["parameters"]["first"]
        return replace(frame, stream=stream, row=row, path=path, metadata=metadata)

    def _blocks(self, frames: FlyScanFrames, descriptor: str) -> list[Frame]:
        """Return the blocks of a fly scan that its documents cover completely by now.

        A document may end within a block, since another detector may have blocks of another size;
        the block then waits for the next document.
        """
        scan, numbers = frames.scan, frames.numbers
        tail = self._tails.pop(scan["uid"], None)
        first = numbers.start if tail is None else tail.frames.numbers.start
        stop, size = numbers.stop, scan["parameters"]["block"]
        whole = range(first, stop - size + 1, size)
        blocks = [
            self._block(replace(frames, numbers=range(start, start + size)), descriptor)
            for start in whole
        ]
        rest = replace(frames, numbers=range(first + len(whole) * size, stop))
        if stop == frames.end and rest.numbers:
            blocks.append(self._block(rest, descriptor))
        else:
            self._tails[scan["uid"]] = _Tail(rest, descriptor)
        return blocks

    def _block(self, frames: FlyScanFrames, descriptor: str) -> Frame:
        parameters: dict[str, Any] = frames.scan["parameters"]
        numbers = frames.numbers
        axes = tuple(Axis.load(axis) for axis in parameters["axes"])
        frame = Frame(
            reference=f"{frames.base}/{numbers.start}",
            run=self._start["uid"],
            stream="",
            detector=frames.scan["data_key"],
            number=numbers.start,
            row=-1,
            server=parameters["server"],
            path="",
            shape=tuple(axis.size for axis in axes),
            dtype=parameters["dtype"],
            checksum=0,
            axes=axes,
            ended=0.0,
            count=len(numbers),
            metadata=parameters["metadata"],
            update=parameters.get("update"),
        )
        stream = self._descriptors[descriptor]["name"]
        if "map" in parameters:
            return self._place_in_map(frame, stream, frames.scan)
        return self._place(frame, stream)

    def _compose(self, datum: Document, detector: str) -> Frame:
        kwargs: dict[str, Any] = datum["datum_kwargs"]
        axes = tuple(Axis.load(axis) for axis in kwargs["axes"])
        return Frame(
            reference=datum["datum_id"],
            run=self._start["uid"],
            stream="",
            detector=detector,
            number=kwargs["number"],
            row=-1,
            server=self._tracker.resource(datum)["resource_kwargs"]["server"],
            path="",
            shape=tuple(axis.size for axis in axes),
            dtype=kwargs["dtype"],
            checksum=kwargs["checksum"],
            axes=axes,
            ended=kwargs["ended"],
            metadata=kwargs["metadata"],
        )

    def _path(self, detector: str, stream: str) -> str:
        """Return the file of a stream: the rows of a file are one stream's events."""
        streams = self._streams.setdefault(detector, [])
        if stream not in streams:
            streams.append(stream)
        suffix = None if streams[0] == stream else stream
        run, started = self._start["uid"], self._start["time"]
        path = self._layout.frames_of(run, started, detector, suffix)
        return path.relative_to(self._layout.root).as_posix()
