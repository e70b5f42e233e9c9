"""The descriptors that were valid for the rows of a stream, from a run's journal."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from threading import Lock

from bluesky_em import documents
from bluesky_em.documents import Document
from bluesky_em.files.journal_reader import HEAD_BYTES, JournalReader


class Descriptors:
    """The start document and the descriptors of one run, read only as far as they are needed.

    Args:
        path: of the run's journal.
    """

    def __init__(self, path: Path):
        self.start: Document = {}
        """empty until `valid_at` has read it"""
        self._reader = JournalReader(path, HEAD_BYTES)
        self._lock = Lock()  # frames are opened by several threads
        self._streams: dict[str, list[Document]] = {}
        self._by_uid: dict[str, Document] = {}
        self._changes: dict[str, list[tuple[int, Document]]] = {}
        self._rows: Counter[str] = Counter()

    def valid_at(self, stream: str, row: int) -> list[Document]:
        """Return a stream's descriptors up to the one that was valid for a row, in order."""
        with self._lock:
            if self._rows[stream] <= row:
                self._read_until(stream, row)
            descriptors = self._streams.get(stream, [])
            valid = [each for first, each in self._changes.get(stream, []) if first <= row]
            return descriptors[: descriptors.index(valid[-1]) + 1] if valid else descriptors[:1]

    def close(self) -> None:
        """Close the journal."""
        self._reader.close()

    def _read_until(self, stream: str, row: int) -> None:
        for name, document in self._reader:
            self._add(name, document)
            if self._rows[stream] > row:
                return

    def _add(self, name: str, document: Document) -> None:
        if name == "start":
            self.start = document
        elif name == "descriptor":
            self._by_uid[document["uid"]] = document
            self._streams.setdefault(document["name"], []).append(document)
        elif name == "stream_datum":
            self._count(document["descriptor"], document["seq_nums"]["stop"] - 1)
        for event in documents.events(name, document):
            self._count(event["descriptor"], 0)

    def _count(self, uid: str, rows: int) -> None:
        """Take note of an event's row, or of those up to `rows` of a stream datum."""
        descriptor = self._by_uid[uid]
        stream = descriptor["name"]
        changes = self._changes.setdefault(stream, [])
        if not changes or changes[-1][1] is not descriptor:
            changes.append((self._rows[stream], descriptor))
        self._rows[stream] = max(rows, self._rows[stream] + (not rows))
