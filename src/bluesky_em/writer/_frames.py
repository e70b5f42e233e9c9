"""From a run's documents to the frames that must be stored."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .. import documents
from ..axes import Axis
from ..documents import Document
from ..frame import Frame
from ..layout import Layout


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

    def __call__(self, name: str, document: Document) -> list[Frame]:
        """Take the next document; give the frames it completes."""
        if name == "start":
            self._start = document
        elif name == "descriptor":
            self._descriptors[document["uid"]] = document
        elif name == "resource" and documents.is_ours(document):
            self._resources[document["uid"]] = document
        for datum in documents.datums(name, document):
            if datum["resource"] in self._resources and datum["datum_id"] not in self._placed:
                self._datums[datum["datum_id"]] = datum
        return [
            self._frame(event, key, self._datums.pop(value))
            for event in documents.events(name, document)
            for key, value in event["data"].items()
            if isinstance(value, str) and value in self._datums
        ]

    def unread(self) -> list[Frame]:
        """Give the frames whose references are in no event; their row is -1, their path empty."""
        frames = []
        for datum in self._datums.values():
            resource = self._resources[datum["resource"]]
            frames.append(self._compose(datum, resource["resource_kwargs"]["detector"]))
        return frames

    def _frame(self, event: Document, key: str, datum: Document) -> Frame:
        stream = self._descriptors[event["descriptor"]]["name"]
        path = self._path(key, stream)
        self._placed.add(datum["datum_id"])
        # Counted, not taken from seq_num: after a pause the RunEngine may emit a number again.
        row = self._rows[path] = self._rows.get(path, -1) + 1
        return replace(self._compose(datum, key), stream=stream, row=row, path=path)

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
