"""Storage: the RunEngine callback, which also starts the processes that do the rest."""

from __future__ import annotations

import logging
import reprlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar

from bluesky.utils import MsgGenerator

from bluesky_em import documents
from bluesky_em.data import Data
from bluesky_em.documents import ReferenceTracker, RunOf
from bluesky_em.errors import DuplicateReference
from bluesky_em.files import readable_folders
from bluesky_em.files.layout import Layout
from bluesky_em.files.ledger import Ledger
from bluesky_em.files.tiled.file_uri import check_folder
from bluesky_em.reference import run_of

from .failure_monitor import FailureMonitor
from .failure_policy import OnFailure
from .open_journals import OpenJournals
from .other_resources import OtherResources
from .path_provider import RunPathProvider
from .plan_guard import PlanGuard
from .reader_address import ReaderAddress, reader_address
from .run_frames import RunFrames, handed_out
from .status import StorageStatus, status_of
from .supervisor import Supervisor

logger = logging.getLogger(__name__)

P = TypeVar("P")

REFERENCES_LIMIT = 100_000  # the newest references are kept in memory


class Storage:
    """Stores all documents of a RunEngine without making it wait.

    Usage:
        storage = Storage("~/em-data")                  # an embedded Tiled server
        storage = Storage("~/em-data", tiled="http://host:8000", api_key="…")
        RE.subscribe(storage)
        eels = gatan.Spectrometer(uri, path_provider=storage.path_provider, name="eels")

    Each document is appended to the run's journal; a plan waits for nothing else. A writer
    process, started and supervised here, does the rest. It continues after this process has
    ended, and the next Storage on the folder finishes what is left.

    Args:
        directory: the storage folder; created if absent. Its path may contain all but `#`, `?` and
            control characters. It may be moved or renamed while no Storage is open on it.
        tiled: address of a Tiled server; None starts an embedded one.
        api_key: that server's key; defaults to the environment's TILED_API_KEY.
        durability: "process": a document survives the death of any process as soon as it has been
            received, and a power cut 0.1 s later. "power": it survives a power cut at once, too
            (costs an fsync per document).
        on_failure: what a plan does at its next checkpoint when storage has failed: "continue"
            (only a warning is logged), "pause" or "abort". The last two need
            `RE.preprocessors.append(storage.guard)`. Storage has failed when a frame of an open
            run is lost, when frames of an open run wait and none has been stored for 30 s, or
            when a spool that the run uses is 80 % full.
        on_failure_catalog: storage has also failed when stored frames of an open run wait and
            none has been catalogued for 30 s, e.g. while Tiled does not answer.
        readable: folders outside this one in which other packages' detectors write, and which Tiled
            may read, too. They stay declared for this storage folder; None: as declared before,
            []: none. A server of your own needs them in its `readable_storage`.

    Raises:
        NotADirectoryError: a readable folder does not exist.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        tiled: str | None = None,
        api_key: str | None = None,
        durability: Literal["process", "power"] = "process",
        on_failure: OnFailure | str = OnFailure.CONTINUE,
        on_failure_catalog: bool = False,
        readable: Sequence[str | Path] | None = None,
    ):
        if durability not in ("process", "power"):
            raise ValueError(f"durability is 'process' or 'power', not {durability!r}")
        on_failure = OnFailure.of(on_failure)
        self.layout = Layout.of(directory)
        check_folder(self.layout.root)
        try:
            self.layout.journal.mkdir(parents=True, exist_ok=True)
            self.layout.try_writing()
        except OSError as exc:
            raise OSError(
                f"{self.layout.root} cannot be a storage folder ({exc.strerror}): give a folder "
                "on a local disk that can be created and written"
            ) from exc
        if readable is not None:
            readable_folders.declare(self.layout, readable)
        self.supervisor = Supervisor(self.layout, tiled=tiled, api_key=api_key)
        self.path_provider = RunPathProvider(self.layout)
        self._closed = False
        self._references: deque[str] = deque(maxlen=REFERENCES_LIMIT)
        self._other_resources: dict[str, Mapping[str, Any]] = {}
        self._others = OtherResources(self.layout)
        self._adopted: set[tuple[str, str]] = set()
        self._noted: set[tuple[type, str]] = set()
        self._run_of = RunOf()
        self._trackers: dict[str, ReferenceTracker] = {}
        self._journals = OpenJournals(
            self.layout,
            power_safe=durability == "power",
            hold=self._hold_detectors,
            note=self._note,
        )
        self._ledger = Ledger(self.layout.ledger)
        self._frames = RunFrames()
        self._monitor = FailureMonitor(
            self._ledger,
            self._frames,
            lambda: self.path_provider.open_runs,
            lambda: self._journals.trouble,
            catalog=on_failure_catalog,
        )
        self._guard = PlanGuard(self._monitor, on_failure)
        self.data = Data(tiled, api_key=api_key, storage=self.layout.root)
        self._tiled = tiled, api_key

    def __call__(self, name: str, document: Mapping[str, Any]) -> None:
        """Append a document to its run's journal; called by the RunEngine.

        What is in a document never stops a plan. A value that is no plain data is kept in a
        readable form; a document that cannot belong to a run is kept in the journal of the newest
        open run, beside that run's documents. Both are logged as warnings.

        Raises:
            FileExistsError: a run with this uid has begun already.
            DuplicateReference: two devices of the run have handed out the same reference.
            OSError: as `Journal.append` does.
        """
        try:
            run = self._run_for(name, document)
        except (ValueError, TypeError) as exc:
            self._set_aside(name, document, str(exc))
            return
        if name == "start":
            self._begin(document["uid"], document)
        elif run is None or run not in self._journals:
            self._adopt(name, document)
        elif name == "stop":
            try:
                self._journals.append(run, name, document)
            finally:  # a run whose stop cannot be kept ends like one whose process died
                self._end(run)
        else:
            self._append(run, name, document)

    def _run_for(self, name: str, document: Mapping[str, Any]) -> str | None:
        documents.check(name, document)
        if name == "start":
            self.layout.folder_of(document["uid"], document["time"])
        return self._run_of(name, document)

    def _append(self, run: str, name: str, document: Mapping[str, Any]) -> None:
        tracker = self._trackers[run]
        try:
            self._check_references(run, name, document)
            tracker.hand_out(name, document)
            for datum in tracker.datums(name, document):
                documents.check_ours(datum)
            references = tracker.handed_out(name, document, last=True)
            frames = list(handed_out(run, tracker, name, document))
        except DuplicateReference:  # two frames under one name: one would be lost
            raise
        except Exception as exc:  # whatever a field of an unexpected type leads to
            self._set_aside(name, document, str(exc) or repr(exc))
            return
        self._journals.append(run, name, document)
        self._run_of.learn(name, document, run)
        is_ours = tracker.learn(name, document)
        if name in ("resource", "stream_resource") and not is_ours:
            self._others.check(name, document)
        if name == "resource" and not is_ours:
            self._other_resources[document["uid"]] = document
        self._references.extend(references)
        for each in frames:
            self._frames.add(each)

    def _begin(self, run: str, start: Mapping[str, Any]) -> None:
        self._journals.begin(run)
        self._trackers[run] = ReferenceTracker()
        self.path_provider.opened(run, start["time"])
        self._guard.warn_if_unused()
        try:
            self._journals.append(run, "start", start)
        except OSError:
            self._end(run)
            raise

    def _end(self, run: str) -> None:
        self.path_provider.closed(run)
        self._run_of.forget(run)
        del self._trackers[run]
        self._journals.end(run)

    def _check_references(self, run: str, name: str, document: Mapping[str, Any]) -> None:
        """Refuse an event whose reference could never be resolved."""
        for event in documents.events(name, document):
            for key, value in event["data"].items():
                is_of_run = isinstance(value, str) and run_of(value) == run
                if is_of_run and not self._trackers[run].awaits(value):
                    raise ValueError(
                        f"this {name} refers to {value!r}, but the datum document that describes "
                        f"it has not come. If {key!r} was read as a child of another device, "
                        "read the detector itself: the RunEngine asks no child for it"
                    )

    def _set_aside(self, name: str, document: Any, why: str) -> None:
        """Keep a document that cannot belong to any run in the journal of the newest open run."""
        run = self._journals.newest
        where = "not kept, since no run is open" if run is None else f"kept in run {run}'s journal"
        logger.warning(
            "a %s document cannot belong to a run, and is %s: %s. It is %s",
            name, where, why, reprlib.repr(document),
            extra={"action": "stray"},
        )  # fmt: skip
        if run is not None:
            stray = {"name": name, "document": document, "why": why}
            self._journals.append(run, documents.STRAY, stray)

    def _note(self, kind: type, form: str) -> None:
        """Log once for each type that is kept in another form."""
        if (kind, form) not in self._noted:
            self._noted.add((kind, form))
            logger.warning(
                "documents hold values of type %s; each is kept as %s", kind.__qualname__, form,
                extra={"action": "form"},
            )  # fmt: skip

    def guard(self, plan: MsgGenerator[P]) -> MsgGenerator[P]:
        """Wrap a plan so that it reacts, at its checkpoints, when storage has failed.

        Usage:
            RE.preprocessors.append(storage.guard)

        Raises:
            StorageFailed: within the plan, if on_failure is "abort"; its clean-up runs.
        """
        return (yield from self._guard(plan))

    def _adopt(self, name: str, document: Mapping[str, Any]) -> None:
        """Find a run for a document that belongs to no open run.

        Classic detectors emit a resource when they are staged and use it for all runs until they
        are unstaged. Its datums are appended, with the resource, to the run that is open now. Our
        detectors do not do this: a reference names its run.
        """
        is_datum = name in ("datum", "datum_page")
        resource = self._other_resources.get(document["resource"]) if is_datum else None
        run = self._journals.newest
        if resource is None or run is None:
            why = "it belongs to no open run. Subscribe Storage before the run begins"
            self._set_aside(name, document, why)
            return
        if (run, resource["uid"]) not in self._adopted:
            self._adopted.add((run, resource["uid"]))
            self._others.check("resource", resource)
            self._journals.append(run, "resource", {**resource, "run_start": run})
        self._journals.append(run, name, document)

    def _hold_detectors(self, why: str) -> None:
        self.path_provider.held = why

    @property
    def references(self) -> list[str]:
        """The newest references, newest last; of a fly scan, the last one of each document."""
        return list(self._references)

    @property
    def tiled_address(self) -> ReaderAddress | None:
        """The Tiled address and key for readers on other PCs; None while the server starts."""
        return reader_address(self.layout, *self._tiled)

    def status(self) -> StorageStatus:
        """Return the status of the storage folder; quick, it uses no network."""
        status = status_of(self.layout, self._ledger)
        return replace(
            status,
            writer=self.supervisor.state("writer"),
            tiled=self.supervisor.state("Tiled server"),
            trouble=self._journals.trouble or status.trouble,
            failure=self._monitor.failure,
        )

    def flush(self, timeout: float = 60.0) -> None:
        """Wait until all references in the folder are catalogued or failed, earlier sessions' too.

        Raises:
            NotReady: after `timeout` seconds.
        """
        self.data.flush(timeout)

    def close(self, *, wait: bool = False, timeout: float = 60.0) -> None:
        """Close; the writer finishes its work and ends. Closing twice is harmless.

        Args:
            wait: first `flush(timeout)`, then wait until the background processes have ended.
            timeout: of the flush, in s.
        """
        if self._closed:
            return
        try:
            if wait:
                self.flush(timeout)
        finally:
            self._closed = True
            self._monitor.close()
            self.data.close()
            self.supervisor.close(wait=wait)
            self._ledger.close()
            self._journals.close()

    def __enter__(self) -> Storage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()
