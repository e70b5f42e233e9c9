"""A run's documents, sorted by stream: everything but the pixels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bluesky_em import documents
from bluesky_em.documents import Document, ReferenceTracker

from . import journal_reader


@dataclass(kw_only=True)
class StreamDocuments:
    """The events of one stream, key by key."""

    name: str
    data_keys: dict[str, Document] = field(default_factory=dict)
    configuration: dict[str, Document] = field(default_factory=dict)
    """by device: `data`, `timestamps` and `data_keys`, as at the stream's first event"""
    time: list[float] = field(default_factory=list)
    """of each event, s since the epoch"""
    seq_num: list[int] = field(default_factory=list)
    data: dict[str, list[Any]] = field(default_factory=dict)
    """values that the events themselves hold, by key; None where an event has none"""
    timestamps: dict[str, list[float]] = field(default_factory=dict)
    """of those values, s since the epoch; NaN where an event has none"""

    def units(self, key: str) -> str:
        """Return a key's units; empty if its data key has none."""
        return str(self.data_keys[key].get("units") or "")

    def describe(self, descriptor: Document) -> None:
        """Add the keys and the configuration of a descriptor."""
        for device, about in descriptor.get("configuration", {}).items():
            self.configuration.setdefault(device, about)
        for key, about in descriptor["data_keys"].items():
            self.data_keys.setdefault(key, about)
            if "external" not in about and key not in self.data:
                self.data[key] = [None] * len(self.time)
                self.timestamps[key] = [float("nan")] * len(self.time)

    def add(self, event: Document) -> None:
        """Add an event."""
        self.time.append(event["time"])
        self.seq_num.append(event["seq_num"])
        for key, values in self.data.items():
            values.append(event["data"].get(key))
            self.timestamps[key].append(event["timestamps"].get(key, float("nan")))


@dataclass(kw_only=True)
class RunDocuments:
    """The documents of one run."""

    start: Document = field(default_factory=dict)
    stop: Document = field(default_factory=dict)
    """empty if the run's process died before its end"""
    descriptors: list[Document] = field(default_factory=list)
    streams: dict[str, StreamDocuments] = field(default_factory=dict)
    others: list[Document] = field(default_factory=list)
    """`resource` and `stream_resource` documents of other packages' detectors"""

    @classmethod
    def load(cls, path: Path) -> RunDocuments:
        """Read the documents that a run's journal holds so far."""
        reader = journal_reader.JournalReader(path)
        try:
            return cls.of(reader)
        finally:
            reader.close()

    @classmethod
    def of(cls, run: Iterable[tuple[str, Document]]) -> RunDocuments:
        """Sort a run's documents, given in order."""
        sorted_run = cls()
        tracker = ReferenceTracker()
        streams: dict[str, StreamDocuments] = {}
        for name, document in run:
            is_ours = tracker.learn(name, document)
            if name == "start":
                sorted_run.start = document
            elif name == "stop":
                sorted_run.stop = document
            elif name == "descriptor":
                sorted_run.descriptors.append(document)
                stream = sorted_run.streams.setdefault(
                    document["name"], StreamDocuments(name=document["name"])
                )
                stream.describe(document)
                streams[document["uid"]] = stream
            elif name in ("resource", "stream_resource") and not is_ours:
                sorted_run.others.append(document)
            for event in documents.events(name, document):
                streams[event["descriptor"]].add(event)
        return sorted_run
