"""The feed of one run from its journal to Tiled: in order, and never ahead of the data."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from bluesky_em import documents
from bluesky_em.acquisition.instrument_pc.faults import step
from bluesky_em.documents import Document, FlyScanFrames, ReferenceTracker
from bluesky_em.files import manifest, master
from bluesky_em.files.atomic import sync_file
from bluesky_em.files.event_counts import EventCounts
from bluesky_em.files.journal_reader import JournalReader
from bluesky_em.files.layout import Layout
from bluesky_em.files.ledger_writer import LedgerWriter
from bluesky_em.files.plain_values import simplify
from bluesky_em.files.tiled import results_container
from bluesky_em.frame import Frame
from bluesky_em.reference import ReferenceState

from . import other_files
from ._fallback import Fallback
from ._normalizer import Normalizer
from ._run_ending import RunEnding
from ._run_writer import TiledRunWriter

logger = logging.getLogger(__name__)

FLUSH_INTERVAL = 0.1  # seconds; an HTTP call costs 15-30 ms whatever it carries
BATCH_LIMIT = 2000  # documents of a long backlog that are read, and flushed, together
# After a flush, pause for PAUSE_FACTOR times its duration, so that others can use the catalog and
# the processor. Creating a run's nodes takes long, but happens once: hence the limit.
PAUSE_FACTOR = 1.5
PAUSE_LIMIT = 0.2  # seconds


class RunFeed:
    """Write the documents of one run from its journal to Tiled.

    An event is released when all frames it refers to have been stored or have failed; the stop
    document when, in addition, the run's files have been closed. A frame is catalogued once its
    event has been released and flushed.

    After any error this object must not be used again: create another one, which begins at the
    journal's first document and finds in Tiled what is there already.

    Args:
        path: the run's journal.
        client: the catalog.
        ledger: holds the frames' stages; catalogued frames are marked there.
        layout: the storage folder.
        ending: how the run ends; the writer changes it meanwhile, this sets `complete`.
        fallback: what is text or left out, since Tiled has refused the run.
    """

    def __init__(
        self,
        path: Path,
        client: Any,
        ledger: LedgerWriter,
        layout: Layout,
        ending: RunEnding,
        fallback: Fallback | None = None,
    ):
        self.last_step = 0.0
        """when it was stepped last (`time.monotonic`)"""
        self._path = path
        self._layout = layout
        self._reader = JournalReader(path)
        self._ledger = ledger
        self._ending = ending
        self._waiting: list[tuple[str, dict[str, Any]]] = []
        self._waits_since = -1
        self._frames: dict[str, list[Frame]] = {}
        self._tracker = ReferenceTracker()
        self._released: list[str] = []
        self._released_fly_scans: dict[str, int] = {}
        self._unflushed = 0
        self._next_flush = 0.0
        self._start: Document = {}
        self._events = EventCounts()
        self._fallback = fallback or Fallback()
        self._client = client
        self._has_others = False
        self._tiled = self._create_writer(client, layout)
        self._normalizer = Normalizer(self._fallback)
        self._normalizer.subscribe(self._tiled)

    def step(self) -> bool:
        """Write what can be written now; return whether the run is complete in Tiled.

        Raises:
            Exception: any error of Tiled; this object must not be used again then.
        """
        self.last_step = time.monotonic()
        read = 0
        for name, document in self._documents():
            read += 1
            if not self._may_pass(name, document):
                self._waiting = [(name, document)]
                break
            if name == "stop":
                return self._complete(document)
            self._release(name, document)
            if self._unflushed >= BATCH_LIMIT:
                self._flush()
        at_end = read < BATCH_LIMIT and not self._waiting
        if self._ending.abandoned and self._ending.files_closed and at_end:
            return self._complete(None)
        if self._unflushed and time.monotonic() >= self._next_flush:
            began = time.monotonic()
            self._flush()
            took = time.monotonic() - began
            pause = max(FLUSH_INTERVAL - took, min(PAUSE_FACTOR * took, PAUSE_LIMIT))
            self._next_flush = began + took + pause
        return False

    def simplify(self, exc: Exception, fallback: Fallback) -> bool:
        """Simplify the run's next attempt after an error, as `Fallback.simplify` does."""
        return fallback.simplify(exc, self._tiled.columns, self._tiled.guilty)

    def close(self) -> None:
        """Close the journal."""
        self._reader.close()

    def _create_writer(self, client: Any, layout: Layout) -> TiledRunWriter:
        return TiledRunWriter(client, self._frames_of, layout.root, self._fallback)

    def _documents(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the next documents. What comes after one that has to wait stays in the journal."""
        waiting, self._waiting = self._waiting, []
        yield from islice(chain(waiting, self._reader), BATCH_LIMIT)

    def _complete(self, stop: dict[str, Any] | None) -> bool:
        self._flush()
        if self._start:  # else the journal is empty
            run = self._start["uid"]
            entries = self._ledger.frames(run)
            folder = self._layout.folder_of(run, self._start["time"])
            account = manifest.compose(
                run, entries, self._events.by_stream,
                abandoned=stop is None, folder=folder, journal=self._path,
            )  # fmt: skip
            account["tables"] = self._tiled.tables
            account["journal"] = manifest.checksums(self._path)
            account["simplified"] = self._fallback.dump()
            account["unreadable"] = self._unreadable(run)
            frames = [entry.frame for entry in entries]
            account["master"] = master.write(self._layout, self._path, frames, account)
            step("feed: master file written")
            manifest.write(account, folder)
            self._tiled.check_rows()
            self._tiled.conclude(account)
        step("feed: before stop")
        if stop is not None:
            self._release("stop", stop)
        step("feed: after stop")
        self._ledger.complete_run(self._path.stem)
        self._ending.complete = True
        self._reader.close()
        return True

    def _unreadable(self, run: str) -> list[dict[str, str]]:
        """Return the files of other packages' detectors that Tiled cannot read."""
        if not self._has_others:
            return []
        node = results_container.find_run(self._client.include_data_sources(), run)
        found = other_files.unreadable(node, self._layout)
        for file in found:
            logger.warning(
                "run %s is complete, but %s", run, other_files.in_words(file),
                extra={"action": "catalog"},
            )  # fmt: skip
        return found

    def _may_pass(self, name: str, document: dict[str, Any]) -> bool:
        if name == "stop":
            return self._ending.files_closed
        changes = self._ledger.changes
        if changes == self._waits_since:  # thousands of runs may wait for the same server
            return False
        ready = self._are_frames_ready(name, document)
        self._waits_since = -1 if ready else changes
        return ready

    def _are_frames_ready(self, name: str, document: dict[str, Any]) -> bool:
        frames = self._tracker.fly_scan_frames(name, document)
        if frames is not None:
            return self._may_frames_pass(document["uid"], frames)
        references = [
            reference
            for _, found in self._tracker.events(name, document)
            for reference in found.values()
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

    def _may_frames_pass(self, stream_datum: str, frames: FlyScanFrames) -> bool:
        entries = self._ledger.blocks(frames.base, frames.numbers)
        if sum(entry.frame.count for entry in entries) < len(frames.numbers):
            return False  # the writer waits for the rest of a block
        if any(entry.stage is ReferenceState.CAPTURED for entry in entries):
            return False
        for entry in entries:
            if entry.stage is ReferenceState.FAILED:
                self._tiled.note_failed(entry.frame, entry.reason)
        self._frames[stream_datum] = [entry.frame for entry in entries]
        self._released_fly_scans[frames.base] = frames.numbers.stop
        return True

    def _frames_of(self, uid: str) -> list[Frame]:
        return self._frames.get(uid, [])

    def _release(self, name: str, document: dict[str, Any]) -> None:
        if name == documents.STRAY:
            self._normalizer.stray(document)
            return
        if name == "start":
            self._start = document
        self._events.add(name, document)
        is_ours = self._tracker.learn(name, document)
        self._has_others |= name in ("resource", "stream_resource") and not is_ours
        self._normalizer(name, _copy(document))
        self._unflushed += 1

    def _flush(self) -> None:
        sync_file(self._path)  # Tiled must not have documents that a power cut can take away here
        self._tiled.flush()
        self._ledger.mark_catalogued(self._released)
        for base, stop in self._released_fly_scans.items():
            self._ledger.mark_blocks_catalogued(base, stop)
        for done in (self._released, self._released_fly_scans, self._frames):
            done.clear()
        self._unflushed = 0


def _copy(document: dict[str, Any]) -> dict[str, Any]:
    try:
        return copy.deepcopy(document)
    except RecursionError:  # hundreds of levels
        return simplify(document)
