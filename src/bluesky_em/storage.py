"""Storage: the RunEngine callback, and the keeper of the writer and the catalog behind it."""

from __future__ import annotations

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
from .journal import Journal
from .keeper import Keeper
from .layout import Layout
from .ledger import Ledger
from .paths import RunPathProvider
from .reference import Stage

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
        self.layout.journal.mkdir(parents=True, exist_ok=True)
        self.path_provider = RunPathProvider(self.layout)
        self._power_safe = durability == "power"
        self._references: deque[str] = deque(maxlen=REMEMBERED)
        self._our_resources: dict[str, set[str]] = {}
        self._run_of = RunOf()
        self._journals: dict[str, Journal] = {}
        self._unsynced: set[Journal] = set()
        self._closing = threading.Event()
        self._ledger = Ledger(self.layout.ledger, read_only=True)
        self.keeper = Keeper(self.layout, tiled=tiled, api_key=api_key)
        self._syncer = threading.Thread(target=self._sync, name="journal-sync", daemon=True)
        self._syncer.start()
        self.data = Data(tiled, api_key=api_key, storage=self.layout.root)

    def __call__(self, name: str, document: Mapping[str, Any]) -> None:
        """Append a document to its run's journal: what `RE.subscribe(storage)` calls."""
        run = self._run_of(name, document)
        if run is None:
            raise ValueError(
                f"this {name} document belongs to no run whose start was seen here: {document}. "
                "Subscribe Storage before the run begins"
            )
        if name == "start":
            self._journals[run] = Journal(self.layout.journal_of(run))
            self.path_provider.opened(run, document["time"])
        journal = self._journals[run]
        journal.append(name, document)
        if self._power_safe:
            journal.sync()
        else:
            self._unsynced.add(journal)
        if name == "resource" and documents.is_ours(document):
            self._our_resources.setdefault(run, set()).add(document["uid"])
        ours = self._our_resources.get(run, ())
        for datum in documents.datums(name, document):
            if datum["resource"] in ours:
                self._references.append(datum["datum_id"])
        if name == "stop":
            self._our_resources.pop(run, None)
            self.path_provider.closed(run)
            self._run_of.forget(run)
            self._unsynced.discard(self._journals.pop(run))
            journal.close()

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
        if wait:
            self.flush(timeout)
        self._closing.set()
        self._syncer.join()
        for journal in self._journals.values():
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
            for journal in list(self._unsynced):
                self._unsynced.discard(journal)
                journal.sync()
