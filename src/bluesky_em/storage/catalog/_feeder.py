"""The thread that keeps Tiled up to date, run by run."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from bluesky_em.files.layout import Layout
from bluesky_em.files.ledger_writer import LedgerWriter
from bluesky_em.files.tiled.address import TiledAddress

from ._run_ending import RunEnding

if TYPE_CHECKING:
    from ._run_feed import RunFeed

logger = logging.getLogger(__name__)

PERIOD = 0.02  # seconds between two looks at the journals
BACKOFF = (0.5, 10.0)  # seconds, first and longest wait while Tiled is away
ASIDE = (1.0, 600.0)  # seconds until a run that Tiled could not take is tried again
REFUSALS = {401, 403, 429, 502, 503, 504}  # HTTP statuses that have nothing to do with the run


@dataclass(frozen=True, kw_only=True)
class _Aside:
    """A run that Tiled could not take."""

    why: str
    pause: float
    """s, growing with each attempt"""
    until: float


class Feeder:
    """Feeds Tiled from all journals that are not complete.

    While Tiled is away, slow or refusing, nothing is tried but one request after each wait (a
    circuit breaker, not a retry per document); then every run goes on where Tiled stands.

    Args:
        layout: the storage folder.
        ledger: tells stages, and is told of catalogued frames.
        address: gives Tiled's address, or None while it is not known.
    """

    def __init__(
        self, layout: Layout, ledger: LedgerWriter, address: Callable[[], TiledAddress | None]
    ):
        self._away = ""
        self._aside: dict[Path, _Aside] = {}
        self._layout = layout
        self._ledger = ledger
        self._address = address
        self._client: Any = None
        self._journals: dict[Path, RunEnding] = {}
        self._feeds: dict[Path, RunFeed] = {}
        self._anew: set[Path] = set()
        self._stopping = threading.Event()
        self._backoff = BACKOFF[0]
        self._thread = threading.Thread(target=self._work, name="feeder", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str:
        """What keeps runs from being complete; empty when nothing does."""
        return "; ".join(
            filter(None, [self._away, *(aside.why for aside in list(self._aside.values()))])
        )

    def add(self, journal: Path, ending: RunEnding) -> None:
        """Take on a run, or begin anew with it; `ending` will tell how it ends."""
        self._anew.add(journal)
        self._journals[journal] = ending

    def stop(self) -> None:
        """Finish the step at hand and end the thread."""
        self._stopping.set()
        self._thread.join(timeout=30.0)

    def _work(self) -> None:
        from ._run_feed import RunFeed  # seconds of imports: storing must not wait for them

        while not self._stopping.wait(PERIOD):
            if not self._journals:
                continue
            try:
                self._step(RunFeed)
                self._backoff = BACKOFF[0]
                self._away = ""
            except Exception as exc:  # any answer of Tiled's: nothing is lost, try again later
                self._open_circuit(exc)

    def _step(self, make_feed: type[RunFeed]) -> None:
        if self._client is None:
            self._client = self._connect()
        for journal, ending in list(self._journals.items()):
            if journal in self._anew:
                self._anew.discard(journal)
                self._drop(journal)
                self._aside.pop(journal, None)
            if journal in self._aside and time.monotonic() < self._aside[journal].until:
                continue
            feed = self._feeds.get(journal)
            if feed is None:
                feed = self._feeds[journal] = make_feed(
                    journal, self._client, self._ledger, self._layout, ending
                )
            try:
                complete = feed.step()
                self._aside.pop(journal, None)
            except Exception as exc:
                if _concerns_all(exc):
                    raise
                self._set_aside(journal, exc)
                continue
            if complete and journal not in self._anew:
                del self._journals[journal], self._feeds[journal]

    def _connect(self) -> Any:
        from tiled.client import from_uri

        address = self._address()
        if address is None:
            raise ConnectionError("the embedded Tiled server is not ready yet (it takes 10-15 s)")
        client = from_uri(address.uri, api_key=address.writer_key or None)
        return client.include_data_sources()  # type: ignore

    def _drop(self, journal: Path) -> None:
        feed = self._feeds.pop(journal, None)
        if feed is not None:
            feed.close()

    def _set_aside(self, journal: Path, exc: Exception) -> None:
        """Leave one run alone for a while: what Tiled cannot take of it must not stop others."""
        if journal not in self._aside:
            logger.exception("run %s is set aside", journal.stem, extra={"action": "catalog"})
        self._drop(journal)
        before = self._aside.get(journal)
        pause = min(2 * before.pause, ASIDE[1]) if before else ASIDE[0]
        self._aside[journal] = _Aside(
            why=f"Tiled refuses run {journal.stem}, its data are safe: {exc}",
            pause=pause, until=time.monotonic() + pause,
        )  # fmt: skip

    def _open_circuit(self, exc: Exception) -> None:
        trouble = f"Tiled: {exc}"
        if trouble != self._away:
            logger.warning("waiting: %s", trouble, extra={"action": "catalog"})
            logger.debug("because of", exc_info=exc)
        self._away = trouble
        for feed in self._feeds.values():
            feed.close()
        self._feeds.clear()
        if self._client is not None:
            self._client.context.close()
            self._client = None
        self._stopping.wait(self._backoff)
        self._backoff = min(2 * self._backoff, BACKOFF[1])


def _concerns_all(exc: Exception) -> bool:
    """Tell whether Tiled is away, or refuses everything, rather than this one run."""
    status = getattr(getattr(exc, "response", None), "status_code", None)
    away = (ConnectionError, httpx.TransportError, sqlite3.OperationalError)
    return isinstance(exc, away) or status in REFUSALS
