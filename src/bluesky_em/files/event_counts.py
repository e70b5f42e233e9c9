"""The number of events in each stream of a run."""

from __future__ import annotations

from collections import Counter

from bluesky_em import documents
from bluesky_em.documents import Document


class EventCounts:
    """Counts events while documents come in order; in a fly scan, its stream datums count them."""

    def __init__(self) -> None:
        self.by_stream: Counter[str] = Counter()
        self._streams: dict[str, str] = {}

    def add(self, name: str, document: Document) -> None:
        """Count the events in a document."""
        if name == "descriptor":
            self._streams[document["uid"]] = document["name"]
        elif name == "stream_datum":
            stream = self._streams[document["descriptor"]]
            last = document["seq_nums"]["stop"] - 1
            self.by_stream[stream] = max(self.by_stream[stream], last)
        for event in documents.events(name, document):
            self.by_stream[self._streams[event["descriptor"]]] += 1
