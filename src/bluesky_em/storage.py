"""Storage: the RunEngine callback, and the keeper of the writer and the catalog behind it."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from . import documents
from .data import Data
from .documents import RunOf
from .faults import step
from .journal import Journal, pack
from .keeper import Keeper
from .layout import Layout
from .ledger import Ledger
from .paths import RunPathProvider
from .reference import Stage

logger = logging.getLogger(__name__)

SYNC_PERIOD = 0.1  # seconds; with durability="process", what a power cut may cost
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
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        tiled: str | None = None,
        api_key: str | None = None,
        durability: Literal["process", "power"] = "process",
    ):
        if durability not in ("process", "power"):
            raise ValueError(f"durability is 'process' or 'power', not {durability!r}")
        self.layout = Layout(Path(directory).expanduser().absolute())
        try:
            self.layout.journal.mkdir(parents=True, exist_ok=True)
            (self.layout.journal / ".writable").touch()
        except OSError as exc:
            raise OSError(
                f"{self.layout.root} cannot be a storage folder ({exc.strerror}): give a folder "
                "that can be made and written to, on a local disk"
            ) from exc
        self.path_provider = RunPathProvider(self.layout)
        self._power_safe = durability == "power"
        self._references: deque[str] = deque(maxlen=REMEMBERED)
        self._resources: dict[str, Mapping[str, Any]] = {}
        self._adopted: set[tuple[str, str]] = set()
        self._run_of = RunOf()
        self._journals: dict[str, Journal] = {}
        self._unsynced: set[Journal] = set()
        self._ended: deque[Journal] = deque()
        self._closing = threading.Event()
        self._ledger = Ledger(self.layout.ledger, read_only=True)
        self.keeper = Keeper(self.layout, tiled=tiled, api_key=api_key)
        self._syncer = threading.Thread(target=self._sync, name="journal-sync", daemon=True)
        self._syncer.start()
        self.data = Data(tiled, api_key=api_key, storage=self.layout.root)

    def __call__(self, name: str, document: Mapping[str, Any]) -> None:
        """Append a document to its run's journal: what `RE.subscribe(storage)` calls."""
        run = self._run_of(name, document)
        if name == "start" and run is not None:
            pack(name, document)  # what cannot be kept must not leave an empty journal behind
            self._journals[run] = Journal(self.layout.journal_of(run))
            self.path_provider.opened(run, document["time"])
        if run not in self._journals:
            self._take_in_stray(name, document)
            return
        self._append(run, name, document)
        if name == "resource":
            self._resources[document["uid"]] = document
        for datum in documents.datums(name, document):
            if documents.is_ours(self._resources.get(datum["resource"], {})):
                self._references.append(datum["datum_id"])
        if name == "stop":
            self.path_provider.closed(run)
            self._run_of.forget(run)
            # synced and closed by the other thread: a disk that is slow to sync is no plan's matter
            self._ended.append(self._journals.pop(run))

    def _append(self, run: str, name: str, document: Mapping[str, Any]) -> None:
        journal = self._journals[run]
        journal.append(name, document)
        step("engine: journalled")
        if self._power_safe:
            journal.sync()
        else:
            self._unsynced.add(journal)

    def _take_in_stray(self, name: str, document: Mapping[str, Any]) -> None:
        """Find a run for a document that names none that is open.

        Classic detectors emit a resource when they are staged and use it for all runs until they
        are unstaged: its datums go, with the resource, to the run that is open now.
        """
        resource = self._resources.get(document.get("resource", ""))
        if resource is None or not self._journals:
            logger.warning(
                "a %s document belongs to no run whose start was seen here, and is not kept: %s. "
                "Subscribe Storage before the run begins", name, document,
                extra={"action": "stray"},
            )  # fmt: skip
            return
        run = list(self._journals)[-1]
        if (run, resource["uid"]) not in self._adopted:
            self._adopted.add((run, resource["uid"]))
            self._append(run, "resource", {**resource, "run_start": run})
        self._append(run, name, document)

    @property
    def references(self) -> list[str]:
        """The references seen here, newest last."""
        return list(self._references)

    def status(self) -> StorageStatus:
        """Tell how storage stands; takes no time and disturbs nobody."""
        counts = self._ledger.counts()
        return StorageStatus(
            captured=counts[Stage.CAPTURED],
            stored=counts[Stage.STORED],
            catalogued=counts[Stage.CATALOGUED],
            failed=counts[Stage.FAILED],
            writer=self.keeper.state("writer"),
            tiled=self.keeper.state("Tiled server"),
            trouble=self._ledger.pulse().trouble,
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
        if self._closing.is_set():
            return
        try:
            if wait:
                self.flush(timeout)
        finally:
            self._closing.set()
            self._syncer.join()
            for journal in (*self._ended, *self._journals.values()):
                journal.close()
            self.data.close()
            self.keeper.close(wait=wait)
            self._ledger.close()

    def __enter__(self) -> Storage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def _sync(self) -> None:
        while not self._closing.wait(SYNC_PERIOD):
            try:
                for journal in list(self._unsynced):
                    self._unsynced.discard(journal)
                    journal.sync()
                while self._ended:
                    self._ended[0].close()
                    self._ended.popleft()
            except OSError:
                logger.exception("a journal cannot be synced", extra={"action": "sync"})
