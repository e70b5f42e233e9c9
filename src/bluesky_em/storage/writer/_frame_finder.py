"""From a run's documents to the frames that must be stored."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bluesky_em import documents
from bluesky_em.axes import Axis
from bluesky_em.documents import Document
from bluesky_em.files.layout import Layout
from bluesky_em.frame import Frame


class FrameFinder:
    """Learns from one run's documents, in order, which frames there are and where each belongs.

    The same documents always give the same frames, so a run may be gone through again at will.
    """

    def __init__(self, layout: Layout):
        self._layout = layout
        self._start: Document = {}
        self._resources: dict[str, Document] = {}
        self._datums: dict[str, Document] = {}
        self._placed: set[str] = set()
        self._descriptors: dict[str, Document] = {}
        self._streams: dict[str, list[str]] = {}
        self._rows: dict[str, int] = {}
        self._flights: dict[str, Document] = {}
        self._tails: dict[str, tuple[Document, range]] = {}

    def __call__(self, name: str, document: Document) -> list[Frame]:
        """Take the next document; give the frames it completes."""
        if name == "start":
            self._start = document
        elif name == "descriptor":
            self._descriptors[document["uid"]] = document
        elif name == "resource" and documents.is_ours(document):
            self._resources[document["uid"]] = document
        elif name == "stream_resource" and documents.is_ours_flown(document):
            self._flights[document["uid"]] = document
            return self.tails(document["data_key"])  # their rows come first
        elif name == "stream_datum" and document["stream_resource"] in self._flights:
            return self._blocks(document)
        for datum in documents.datums(name, document):
            if datum["resource"] in self._resources and datum["datum_id"] not in self._placed:
                self._datums[datum["datum_id"]] = datum
        return [
            self._frame(event, key, self._datums.pop(value))
            for event in documents.events(name, document)
            for key, value in event["data"].items()
            if isinstance(value, str) and value in self._datums
        ]

    def tails(self, data_key: str | None = None) -> list[Frame]:
        """Give what is left of flights that ended early: the covered part of their last blocks.

        Args:
            data_key: of one detector's flights; None: of all.
        """
        flights = [uid for uid in self._tails if data_key in (None, self._flights[uid]["data_key"])]
        tails = [self._tails.pop(uid) for uid in flights]
        return [self._block(datum, numbers) for datum, numbers in tails if numbers]

    def unread(self) -> list[Frame]:
        """Give the frames whose references are in no event; their row is -1, their path empty."""
        frames = []
        for datum in self._datums.values():
            resource = self._resources[datum["resource"]]
            frames.append(self._compose(datum, resource["resource_kwargs"]["detector"]))
        return frames

    def _frame(self, event: Document, key: str, datum: Document) -> Frame:
        stream = self._descriptors[event["descriptor"]]["name"]
        self._placed.add(datum["datum_id"])
        return self._place(self._compose(datum, key), stream)

    def _place(self, frame: Frame, stream: str) -> Frame:
        path = self._path(frame.detector, stream)
        # Counted, not taken from seq_num: after a pause the RunEngine may emit a number again.
        row = self._rows.get(path, 0)
        self._rows[path] = row + frame.count
        return replace(frame, stream=stream, row=row, path=path)

    def _blocks(self, datum: Document) -> list[Frame]:
        """Give the blocks of a flight that its documents cover by now.

        A document may end within a block (that of another detector with other blocks decided); the
        block waits for the next one.
        """
        flight = self._flights[datum["stream_resource"]]
        parameters = flight["parameters"]
        numbers = documents.numbers(flight, datum)
        _, tail = self._tails.pop(flight["uid"], (datum, range(numbers.start, numbers.start)))
        first, stop, size = tail.start, numbers.stop, parameters["block"]
        whole = range(first, stop - size + 1, size)
        blocks = [self._block(datum, range(start, start + size)) for start in whole]
        rest = range(first + len(whole) * size, stop)
        if stop == parameters["first"] + parameters["frames"] and rest:
            blocks.append(self._block(datum, rest))
        else:
            self._tails[flight["uid"]] = datum, rest
        return blocks

    def _block(self, datum: Document, numbers: range) -> Frame:
        flight = self._flights[datum["stream_resource"]]
        parameters: dict[str, Any] = flight["parameters"]
        axes = tuple(Axis.load(axis) for axis in parameters["axes"])
        frame = Frame(
            reference=f"{parameters['base']}/{numbers.start}",
            run=self._start["uid"],
            stream="",
            detector=flight["data_key"],
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
        return self._place(frame, self._descriptors[datum["descriptor"]]["name"])

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
            server=self._resources[datum["resource"]]["resource_kwargs"]["server"],
            path="",
            shape=tuple(axis.size for axis in axes),
            dtype=kwargs["dtype"],
            checksum=kwargs["checksum"],
            axes=axes,
            ended=kwargs["ended"],
            metadata=kwargs["metadata"],
        )

    def _path(self, detector: str, stream: str) -> str:
        """Give each stream a file: rows of a file are one stream's events."""
        streams = self._streams.setdefault(detector, [])
        if stream not in streams:
            streams.append(stream)
        suffix = None if streams[0] == stream else stream
        run, started = self._start["uid"], self._start["time"]
        path = self._layout.frames_of(run, started, detector, suffix)
        return path.relative_to(self._layout.root).as_posix()
