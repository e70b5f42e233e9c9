"""A storage folder as a source of references: its ledger, journals and files."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xarray

from bluesky_em import documents
from bluesky_em.errors import UnknownReference
from bluesky_em.files import journal_reader, manifest, run_names
from bluesky_em.files.hdf5 import FramesReader
from bluesky_em.files.hdf5.updates import UpdateReader
from bluesky_em.files.layout import Layout
from bluesky_em.files.ledger import HEARTBEAT_TIMEOUT, Entry, Ledger
from bluesky_em.files.results import FolderResults
from bluesky_em.files.run_documents import RunDocuments
from bluesky_em.frame import Frame
from bluesky_em.reference import Reference, ReferenceState

from ._descriptors import Descriptors
from ._frame_metadata import completed, valid_for
from ._reference_status import ReferenceStatus
from ._results import ResultStore
from ._stored_frame import StoredFrame
from ._superseded import superseded
from ._unknown_reference import unknown_in_run
from .follow import FolderRun, FolderRuns, RunSource, RunsSource

OPEN_RUNS_LIMIT = 4  # runs whose journals stay open, those whose frames were opened last


class FolderSource:
    """A storage folder on this PC, which knows a reference as soon as it is handed out.

    Args:
        root: the storage folder.
    """

    poll = 0.02
    """time between two queries while waiting, s"""

    def __init__(self, root: Path):
        self._layout = Layout(root)
        self._ledger = Ledger(self._layout.ledger)
        self._in_journal: set[str] = set()
        self._descriptors: dict[str, Descriptors] = {}

    def statuses(self, references: list[str]) -> list[ReferenceStatus]:
        """Return the status of each reference.

        Raises:
            UnknownReference: one of them is in no journal here.
        """
        known = self._ledger.stages(references)
        return [
            ReferenceStatus(reference=ref, stage=known[ref][0], reason=known[ref][1])
            if ref in known
            else self._from_journal(ref)
            for ref in references
        ]

    def explain(self, status: ReferenceStatus) -> str:
        """Describe what a reference waits for, and whether storage is slow or stuck."""
        counts = self._ledger.counts()
        to_store, to_catalogue = counts[ReferenceState.CAPTURED], counts[ReferenceState.STORED]
        backlog = f"{to_store} to store, {to_catalogue} to catalogue"
        heartbeat = self._ledger.heartbeat()
        silent = time.time() - heartbeat.time
        if not heartbeat.time or silent > HEARTBEAT_TIMEOUT:
            since = f"for {silent:.0f} s" if heartbeat.time else "yet"
            return (
                f"stuck: the writer has given no sign of life {since} (see "
                f"{self._layout.writer_log}); `bluesky-em writer {self._layout.root}` starts one"
            )
        if heartbeat.trouble:
            return f"held up ({backlog}): {heartbeat.trouble}"
        return f"on its way ({backlog})"

    def unfinished(self) -> list[str]:
        """Return the references of all runs that are not complete, from their journals.

        Of a fly scan, only the last reference of each document.
        """
        references: list[str] = []
        for path in self._layout.journals():
            if not self._ledger.is_complete(path.stem):
                references += documents.references(journal_reader.read(path), last=True)
        return references

    def full_uid(self, beginning: str) -> str:
        """Return the uid of the run that begins so; `beginning` if none does.

        Raises:
            UnknownReference: several do.
        """
        return run_names.full_uid(self._layout, beginning)

    def run_complete(self, run: str) -> bool:
        """Return whether a run is complete.

        Raises:
            UnknownReference: it has no journal here.
        """
        path = self._layout.journal_of(run)
        complete = self._ledger.is_complete(path.stem)
        if complete is None and not path.exists():
            raise run_names.unknown(self._layout, run)
        return bool(complete)

    def run_remark(self, run: str) -> str:
        """Return in words how complete a complete run is."""
        head = journal_reader.head(self._layout.journal_of(run))
        start = next((document for name, document in head if name == "start"), None)
        folder = self._layout.folder_of(run, start["time"]) if start else self._layout.data
        return manifest.remark(manifest.read(folder) or {})

    def open(self, reference: str) -> StoredFrame:
        """Open a stored frame from its file; the pixels of an update are read now.

        Raises:
            LookupError: it was an update, and its own values no longer exist.
        """
        entry = self._ledger.find(reference)
        assert entry is not None, "only a stored reference is opened"
        frame = entry.frame
        return StoredFrame(
            reference=reference, axes=frame.axes, metadata=self._metadata(entry),
            _read=self._reader(frame),
        )  # fmt: skip

    def stream(self, run: str, stream: str) -> xarray.Dataset:
        """Open the stream of a complete run from journal and files.

        Raises:
            LookupError: the run has no such stream.
        """
        from . import _stream  # importing dask takes long: only when it is needed

        run_documents = RunDocuments.load(self._layout.journal_of(run))
        frames = [entry.frame for entry in self._ledger.frames(run)]
        return _stream.from_folder(self._layout.root, run_documents, frames, stream)

    trouble = (OSError, sqlite3.OperationalError)
    """errors while the disk is away"""

    def follow(self, run: str, streams: tuple[str, ...] | None, patience: float) -> RunSource:
        """Follow a run as it grows; reading a file does not wait, so `patience` has no effect."""
        return FolderRun(self._layout, self._ledger, run, streams, self.open)

    def follow_runs(self, *, last: int, since: float | None, at: str) -> RunsSource:
        """Follow runs as they begin: first the `last` ones, those since a time, or from `at` on."""
        return FolderRuns(self._layout, last=last, since=since, at=at)

    def results(self, run: str) -> ResultStore:
        """Return the store of a run's results."""
        return FolderResults(self._layout.results_of(run), self._layout.journal_of(run))

    def close(self) -> None:
        """Close the ledger and the journals."""
        self._ledger.close()
        for descriptors in self._descriptors.values():
            descriptors.close()

    def _reader(self, frame: Frame) -> Callable[[], Any]:
        path = self._layout.root / frame.path

        def read() -> Any:
            with FramesReader(path) as file:
                return file.read(frame.row)

        if frame.update is None:
            return read
        with UpdateReader(path) as updates:  # now: the next update may overwrite it
            try:
                values = updates.update(frame.row).reshape(frame.shape)
            except LookupError as exc:
                raise superseded(frame.reference, frame.update["mode"], frame.stream) from exc
        return lambda: values

    def _metadata(self, entry: Entry) -> dict[str, Any]:
        frame, descriptors = entry.frame, self._descriptors_of(entry.frame.run)
        valid = descriptors.valid_at(frame.stream, frame.row)
        configurations = [completed(each.get("configuration", {})) for each in valid]
        return {
            "start": descriptors.start,
            "configuration": valid_for(frame.detector, frame.metadata, configurations),
            "frame": {**frame.metadata, "time": frame.ended},
        }

    def _descriptors_of(self, run: str) -> Descriptors:
        found = self._descriptors.pop(run, None) or Descriptors(self._layout.journal_of(run))
        self._descriptors[run] = found
        while len(self._descriptors) > OPEN_RUNS_LIMIT:
            oldest = next(iter(self._descriptors))
            self._descriptors.pop(oldest).close()
        return found

    def _from_journal(self, reference: str) -> ReferenceStatus:
        if reference not in self._in_journal:
            own = self._layout.journal_of(Reference.parse(reference).run)
            journals = [own] if own.exists() else self._layout.journals()
            if not any(self._hands_out(path, reference) for path in journals):
                raise self._unknown(reference, own)
        return ReferenceStatus(reference=reference, stage=ReferenceState.CAPTURED)

    def _unknown(self, reference: str, journal: Path) -> UnknownReference:
        if journal.exists():
            return unknown_in_run(reference, documents.references(journal_reader.read(journal)))
        return UnknownReference(
            f"no run in {self._layout.root} handed out {reference!r}. References are in "
            f"`storage.references` and in the events' data; {run_names.newest(self._layout)}"
        )

    def _hands_out(self, path: Path, reference: str) -> bool:
        content = path.read_bytes()
        if reference.encode() in content:
            self._in_journal.add(reference)
        elif reference.rpartition("/")[0].encode() in content:
            # the journal of a fly scan does not hold each reference: compute them all
            self._in_journal.update(documents.references(journal_reader.read(path)))
        return reference in self._in_journal
