"""Feeds Tiled from the journals: in order, and never ahead of the data."""

from __future__ import annotations

import copy
import time
from collections import Counter, deque
from itertools import islice
from pathlib import Path
from typing import Any

from bluesky_em import documents
from bluesky_em.acquisition.instrument_pc.faults import step
from bluesky_em.files import manifest, master
from bluesky_em.files.journal_reader import JournalReader
from bluesky_em.files.layout import Layout
from bluesky_em.files.ledger_writer import LedgerWriter
from bluesky_em.frame import Frame
from bluesky_em.reference import ReferenceState

from ._normalizer import Normalizer
from ._run_ending import RunEnding
from ._run_writer import TiledRunWriter

LINGER = 0.1  # seconds between two flushes: an HTTP call costs 15-30 ms whatever it carries
BATCH = 2000  # documents of a long backlog that are read, and flushed, at a time
SHARE = 1.5  # times what the last flush took: leave the catalog and the processor time for others
LONGEST = 0.2  # seconds that are left to them at most: making a run's nodes takes long, and once


class RunFeed:
    """Brings one run from its journal to Tiled.

    An event is released when all it refers to has been stored (or has failed); the stop document
    when, moreover, the run's files have been closed. What was released and flushed is catalogued.

    After any error this object is spent: make a new one, which begins at the journal's first
    document and finds in Tiled what is there already.

    Args:
        path: the run's journal.
        client: the catalog.
        ledger: tells stages, and is told of catalogued frames.
        layout: the storage folder.
        ending: how the run ends; changes meanwhile.
    """

    def __init__(
        self, path: Path, client: Any, ledger: LedgerWriter, layout: Layout, ending: RunEnding
    ):
        self._path = path
        self._layout = layout
        self._reader = JournalReader(path)
        self._ledger = ledger
        self._ending = ending
        self._waiting: deque[tuple[str, dict[str, Any]]] = deque()
        self._frames: dict[str, list[Frame]] = {}
        self._flights: dict[str, documents.Document] = {}
        self._flown: dict[str, int] = {}
        self._our_resources: set[str] = set()
        self._our_datums: set[str] = set()
        self._released: list[str] = []
        self._unflushed = 0
        self._next_flush = 0.0
        self._start: documents.Document = {}
        self._streams: dict[str, str] = {}
        self._events: Counter[str] = Counter()
        self._tiled = TiledRunWriter(client, self._frames_of, lambda p: (layout.root / p).as_uri())
        self._normalizer = Normalizer()
        self._normalizer.subscribe(self._tiled)

    def step(self) -> bool:
        """Go as far as possible now; True once the run is complete in Tiled.

        Raises:
            Exception: whatever Tiled answered; this object is spent then.
        """
        more = len(self._waiting) > BATCH // 2  # a long backlog must not all be in memory
        if not more:
            read = list(islice(self._reader, BATCH))
            self._waiting.extend(read)
            more = len(read) == BATCH
        while self._waiting and self._may_pass(*self._waiting[0]):
            name, document = self._waiting[0]
            if name == "stop":
                return self._complete(document)
            self._release(name, document)
            self._waiting.popleft()
            if self._unflushed >= BATCH:
                self._flush()
        at_end = not more and not self._waiting
        if self._ending.abandoned and self._ending.files_closed and at_end:
            return self._complete(None)
        if self._unflushed and time.monotonic() >= self._next_flush:
            began = time.monotonic()
            self._flush()
            took = time.monotonic() - began
            self._next_flush = began + took + max(LINGER - took, min(SHARE * took, LONGEST))
        return False

    def close(self) -> None:
        """Let go of the journal."""
        self._reader.close()

    def _complete(self, stop: dict[str, Any] | None) -> bool:
        self._flush()
        if self._start:  # else not even that was kept
            run = self._start["uid"]
            entries = self._ledger.frames(run)
            account = manifest.compose(run, entries, self._events, abandoned=stop is None)
            frames = [entry.frame for entry in entries]
            account["master"] = master.write(self._layout, self._path, frames, account)
            step("feed: master file written")
            manifest.write(account, self._layout.folder_of(run, self._start["time"]))
            self._tiled.conclude(account)
        step("feed: before stop")
        if stop is not None:
            self._release("stop", stop)
        step("feed: after stop")
        self._ledger.complete_run(self._path.stem)
        self._reader.close()
        return True

    def _may_pass(self, name: str, document: dict[str, Any]) -> bool:
        if name == "stop":
            return self._ending.files_closed
        if name == "stream_datum" and document["stream_resource"] in self._flights:
            return self._may_flown_pass(document)
        references = [
            ref for event in documents.events(name, document) for ref in self._ours(event)
        ]
        stages = self._ledger.stages(references)
        if any(
            stages.get(r, (ReferenceState.CAPTURED,))[0] is ReferenceState.CAPTURED
            for r in references
        ):
            return False
        for reference in references:
            entry = self._ledger.find(reference)
            assert entry is not None
            self._frames[reference] = [entry.frame]
            if entry.stage is ReferenceState.FAILED:
                self._tiled.note_failed(entry.frame, entry.reason)
        self._released.extend(references)
        return True

    def _may_flown_pass(self, datum: dict[str, Any]) -> bool:
        flight = self._flights[datum["stream_resource"]]
        base, numbers = flight["parameters"]["base"], documents.numbers(flight, datum)
        entries = self._ledger.blocks(base, numbers)
        if sum(entry.frame.count for entry in entries) < len(numbers):
            return False  # the writer waits for the rest of a block
        if any(entry.stage is ReferenceState.CAPTURED for entry in entries):
            return False
        for entry in entries:
            if entry.stage is ReferenceState.FAILED:
                self._tiled.note_failed(entry.frame, entry.reason)
        self._frames[datum["uid"]] = [entry.frame for entry in entries]
        self._flown[base] = numbers.stop
        return True

    def _frames_of(self, uid: str) -> list[Frame]:
        return self._frames.get(uid, [])

    def _ours(self, event: documents.Document) -> list[str]:
        return [
            value
            for value in event["data"].values()
            if isinstance(value, str) and value in self._our_datums
        ]

    def _release(self, name: str, document: dict[str, Any]) -> None:
        if name == "start":
            self._start = document
        elif name == "descriptor":
            self._streams[document["uid"]] = document["name"]
        elif name == "resource" and documents.is_ours(document):
            self._our_resources.add(document["uid"])
        elif name == "stream_resource" and documents.is_ours_flown(document):
            self._flights[document["uid"]] = document
        elif name == "stream_datum":
            stream = self._streams[document["descriptor"]]
            self._events[stream] = max(self._events[stream], document["seq_nums"]["stop"] - 1)
        for event in documents.events(name, document):
            self._events[self._streams[event["descriptor"]]] += 1
        for datum in documents.datums(name, document):
            if datum["resource"] in self._our_resources:
                self._our_datums.add(datum["datum_id"])
        self._normalizer(name, copy.deepcopy(document))
        self._unflushed += 1

    def _flush(self) -> None:
        self._tiled.flush()
        self._ledger.mark_catalogued(self._released)
        for base, stop in self._flown.items():
            self._ledger.mark_blocks_catalogued(base, stop)
        self._our_datums.difference_update(self._released)
        for done in (self._released, self._flown, self._frames):
            done.clear()
        self._unflushed = 0
