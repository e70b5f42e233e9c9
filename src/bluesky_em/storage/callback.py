"""Storage: the RunEngine callback, and the keeper of the writer and the catalog behind it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar

import bluesky.preprocessors as bpp
from bluesky.utils import Msg, MsgGenerator

from bluesky_em import documents
from bluesky_em.data import Data
from bluesky_em.documents import RunOf
from bluesky_em.errors import StorageFailed
from bluesky_em.files.codec import pack
from bluesky_em.files.layout import Layout
from bluesky_em.files.ledger import Ledger
from bluesky_em.reference import ReferenceState

from .failure_monitor import FailureMonitor
from .open_journals import OpenJournals
from .path_provider import RunPathProvider
from .supervisor import Supervisor

logger = logging.getLogger(__name__)

P = TypeVar("P")
OnFailure = Literal["continue", "pause", "abort"]

REMEMBERED = 100_000  # references kept in memory, newest last


@dataclass(frozen=True, kw_only=True)
class StorageStatus:
    """How storage stands."""

    captured: int
    """references whose frames still wait in a spool"""
    stored: int
    """references in their files, not yet readable through Tiled"""
    catalogued: int
    failed: int
    writer: str
    """`running`, or what its end was"""
    tiled: str
    """the same of the embedded Tiled server; `not kept here` for somebody else's"""
    trouble: str
    """what keeps the writer from going on; empty when nothing does"""
    failure: str
    """trouble that lasts, or lost frames; empty when there is none"""


class Storage:
    """Keeps what a RunEngine emits, without ever making it wait.

    Usage:
        storage = Storage("~/em-data")                  # an embedded Tiled server
        storage = Storage("~/em-data", tiled="http://host:8000", api_key="…")
        RE.subscribe(storage)
        eels = gatan.Spectrometer(uri, path_provider=storage.path_provider, name="eels")

    Each document is appended to the run's journal, and that is all a plan waits for. A writer
    process, started and watched here, does the rest; it goes on after this process has ended,
    and the next Storage on the folder takes up what is left.

    Args:
        directory: the storage folder; made if absent.
        tiled: address of a Tiled server; None starts an embedded one.
        api_key: that server's key; defaults to the environment's TILED_API_KEY.
        durability: "process": a document survives the death of any process at once, and a power
            cut after 0.1 s. "power": a power cut at once, too (costs an fsync per document).
        on_failure: what a plan is to do, at its next checkpoint, when storage has failed for good
            (trouble for 30 s, or a frame lost): "continue" (a warning at the prompt), "pause" or
            "abort". The last two need `RE.preprocessors.append(storage.guard)`.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        tiled: str | None = None,
        api_key: str | None = None,
        durability: Literal["process", "power"] = "process",
        on_failure: OnFailure = "continue",
    ):
        if durability not in ("process", "power"):
            raise ValueError(f"durability is 'process' or 'power', not {durability!r}")
        if on_failure not in ("continue", "pause", "abort"):
            raise ValueError(f"on_failure is 'continue', 'pause' or 'abort', not {on_failure!r}")
        self.layout = Layout(Path(directory).expanduser().absolute())
        try:
            self.layout.journal.mkdir(parents=True, exist_ok=True)
            self.layout.try_writing()
        except OSError as exc:
            raise OSError(
                f"{self.layout.root} cannot be a storage folder ({exc.strerror}): give a folder "
                "that can be made and written to, on a local disk"
            ) from exc
        self.keeper = Supervisor(self.layout, tiled=tiled, api_key=api_key)
        self.path_provider = RunPathProvider(self.layout)
        self._on_failure = on_failure
        self._guarded = on_failure == "continue"
        self._closed = False
        self._references: deque[str] = deque(maxlen=REMEMBERED)
        self._resources: dict[str, Mapping[str, Any]] = {}
        self._adopted: set[tuple[str, str]] = set()
        self._run_of = RunOf()
        self._datums: dict[str, set[str]] = {}
        self._journals = OpenJournals(
            self.layout, power_safe=durability == "power", hold=self._hold_detectors
        )
        self._ledger = Ledger(self.layout.ledger)
        self._health = FailureMonitor(self._ledger, lambda: self._journals.trouble)
        self.data = Data(tiled, api_key=api_key, storage=self.layout.root)

    def __call__(self, name: str, document: Mapping[str, Any]) -> None:
        """Append a document to its run's journal: what `RE.subscribe(storage)` calls.

        Raises:
            ValueError: it is no document that could be filed or catalogued; it is not kept.
            TypeError: it holds what is no data; it is not kept.
            FileExistsError: a run of this uid has begun already.
            OSError: as `Journal.append` does.
        """
        documents.check(name, document)
        run = self._run_of(name, document)
        if name == "start":
            self._begin(document["uid"], document)
        elif run is None or run not in self._journals:
            self._take_in_stray(name, document)
        elif name == "stop":
            try:
                self._journals.append(run, name, document)
            finally:  # if it cannot be kept, the run is like one whose process died
                self._end(run)
        else:
            self._check_references(run, name, document)
            datums = list(documents.datums(name, document))
            ours = [datum for datum in datums if self._is_ours(datum)]
            for datum in ours:
                documents.check_ours(datum)
            self._journals.append(run, name, document)
            self._run_of.learn(name, document, run)
            self._datums[run].update(datum["datum_id"] for datum in datums)
            for event in documents.events(name, document):  # a reference belongs to one event
                self._datums[run].difference_update(filter(_is_text, event["data"].values()))
            self._references.extend(datum["datum_id"] for datum in ours)
            if name in ("resource", "stream_resource"):
                self._resources[document["uid"]] = document
            elif name == "stream_datum":
                self._references.extend(self._flown(document))

    def _begin(self, run: str, start: Mapping[str, Any]) -> None:
        # What cannot be kept must not leave an empty journal behind.
        pack("start", start)
        self.layout.folder_of(run, start["time"])
        self._journals.begin(run)
        self._datums[run] = set()
        self.path_provider.opened(run, start["time"])
        self._warn_if_unguarded()
        try:
            self._journals.append(run, "start", start)
        except OSError:
            self._end(run)
            raise

    def _end(self, run: str) -> None:
        self.path_provider.closed(run)
        self._run_of.forget(run)
        del self._datums[run]
        self._journals.end(run)

    def _is_ours(self, datum: Mapping[str, Any]) -> bool:
        return documents.is_ours(self._resources.get(datum["resource"], {}))

    def _flown(self, datum: Mapping[str, Any]) -> list[str]:
        """Give the last reference of a `stream_datum` of ours."""
        flight = self._resources.get(datum["stream_resource"], {})
        if not documents.is_ours_flown(flight):
            return []
        return [f"{flight['parameters']['base']}/{documents.numbers(flight, datum)[-1]}"]

    def _check_references(self, run: str, name: str, document: Mapping[str, Any]) -> None:
        """Refuse an event whose reference nobody could ever follow."""
        for event in documents.events(name, document):
            for key, value in event["data"].items():
                is_of_run = _is_text(value) and value.startswith(f"{run}/")
                if is_of_run and value not in self._datums[run]:
                    raise ValueError(
                        f"this {name} refers to {value!r}, but the datum document that tells "
                        f"where it is has not come. If {key!r} was read as a child of another "
                        "device, read the detector itself: the RunEngine asks no child for it"
                    )

    def guard(self, plan: MsgGenerator[P]) -> MsgGenerator[P]:
        """Have a plan notice, at its checkpoints, that storage has failed.

        Usage:
            RE.preprocessors.append(storage.guard)

        Raises:
            StorageFailed: within the plan, with on_failure="abort"; its clean-up runs.
        """
        self._guarded = True
        if self._on_failure == "continue":
            return (yield from plan)

        def at_checkpoint(msg: Msg) -> tuple[MsgGenerator[None] | None, None]:
            failed = msg.command == "checkpoint" and self._health.failure
            return (self._react(), None) if failed else (None, None)

        return (yield from bpp.plan_mutator(plan, at_checkpoint))  # type: ignore (the plan's own)

    def _react(self) -> MsgGenerator[None]:
        failure = self._health.failure
        self._health.forgive()
        if self._on_failure == "abort":
            raise StorageFailed(f"{failure}. What was taken until now is safe")
        print(f"Paused, since storage has failed: {failure}. RE.resume() goes on all the same")
        yield Msg("pause")

    def _take_in_stray(self, name: str, document: Mapping[str, Any]) -> None:
        """Find a run for a document that names none that is open.

        Classic detectors emit a resource when they are staged and use it for all runs until they
        are unstaged: its datums go, with the resource, to the run that is open now. Ours do not:
        a reference names its run.
        """
        is_datum = name in ("datum", "datum_page")
        resource = self._resources.get(document["resource"]) if is_datum else None
        run = self._journals.newest
        if resource is None or documents.is_ours(resource) or run is None:
            logger.warning(
                "a %s document belongs to no run that is open here, and is not kept: %s. "
                "Subscribe Storage before the run begins", name, document,
                extra={"action": "stray"},
            )  # fmt: skip
            return
        if (run, resource["uid"]) not in self._adopted:
            self._adopted.add((run, resource["uid"]))
            self._journals.append(run, "resource", {**resource, "run_start": run})
        self._journals.append(run, name, document)

    def _hold_detectors(self, why: str) -> None:
        self.path_provider.held = why

    def _warn_if_unguarded(self) -> None:
        if not self._guarded:
            logger.warning(
                "on_failure=%r has no effect: RE.preprocessors.append(storage.guard) is missing",
                self._on_failure,
                extra={"action": "guard"},
            )  # fmt: skip

    @property
    def references(self) -> list[str]:
        """The references seen here, newest last; of a fly scan, the last of each document's."""
        return list(self._references)

    def status(self) -> StorageStatus:
        """Tell how storage stands; takes no time and disturbs nobody."""
        counts = self._ledger.counts()
        return StorageStatus(
            captured=counts[ReferenceState.CAPTURED],
            stored=counts[ReferenceState.STORED],
            catalogued=counts[ReferenceState.CATALOGUED],
            failed=counts[ReferenceState.FAILED],
            writer=self.keeper.state("writer"),
            tiled=self.keeper.state("Tiled server"),
            trouble=self._journals.trouble or self._ledger.heartbeat().trouble,
            failure=self._health.failure,
        )

    def flush(self, timeout: float = 60.0) -> None:
        """Wait until every reference in the folder, of earlier sessions too, is catalogued or lost.

        Raises:
            NotReady: that took longer than `timeout` seconds.
        """
        self.data.flush(timeout)

    def close(self, *, wait: bool = False, timeout: float = 60.0) -> None:
        """Let go; the writer finishes what is left and ends. Closing twice is harmless.

        Args:
            wait: first `flush(timeout)`, then wait until the processes behind have ended.
            timeout: in s, of the flush.
        """
        if self._closed:
            return
        try:
            if wait:
                self.flush(timeout)
        finally:
            self._closed = True
            self._health.close()
            self.data.close()
            self.keeper.close(wait=wait)
            self._ledger.close()
            self._journals.close()

    def __enter__(self) -> Storage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()


def _is_text(value: Any) -> bool:
    return isinstance(value, str)
