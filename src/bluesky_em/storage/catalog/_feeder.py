"""The thread that writes runs to Tiled, one after the other."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from bluesky_em.files.layout import Layout
from bluesky_em.files.ledger_writer import LedgerWriter
from bluesky_em.files.tiled.address import TiledAddress, why_not_ready

from .._periodic import Backoff, PeriodicThread
from ._run_ending import RunEnding

if TYPE_CHECKING:
    from ._run_feed import RunFeed

logger = logging.getLogger(__name__)

POLL_INTERVAL = 0.02  # seconds between two checks of the journals
BACKOFF = (0.5, 10.0)  # seconds, first and longest wait while Tiled is unreachable
RUN_BACKOFF = (1.0, 600.0)  # seconds, first and longest wait before a refused run is tried again
SERVER_ERRORS = {401, 403, 429, 502, 503, 504}  # HTTP statuses that do not depend on the run


@dataclass(frozen=True, kw_only=True)
class _Postponed:
    """A run that Tiled refused."""

    why: str
    backoff: Backoff
    """of the pauses between attempts"""
    until: float
    """time of the next attempt, on the monotonic clock"""


class Feeder:
    """Writes all journals that are not complete to Tiled.

    While Tiled is unreachable, slow or refuses everything, one request is tried after each wait (a
    circuit breaker, not a retry per document). Then every run continues from what Tiled has.

    Args:
        layout: the storage folder.
        ledger: has the stages of frames; catalogued frames are recorded in it.
        address: returns Tiled's address, or None while it is not known.
    """

    def __init__(
        self, layout: Layout, ledger: LedgerWriter, address: Callable[[], TiledAddress | None]
    ):
        self._trouble = ""
        self._postponed: dict[Path, _Postponed] = {}
        self._layout = layout
        self._ledger = ledger
        self._address = address
        self._client: Any = None
        self._journals: dict[Path, RunEnding] = {}
        self._feeds: dict[Path, RunFeed] = {}
        self._restarted: set[Path] = set()
        self._backoff = Backoff(*BACKOFF)
        self._thread = PeriodicThread("feeder", POLL_INTERVAL, self._work)
        self._thread.start()

    @property
    def trouble(self) -> str:
        """Why runs do not become complete; empty when all is well."""
        postponed = [run.why for run in list(self._postponed.values())]
        return "; ".join(filter(None, [self._trouble, *postponed]))

    def add(self, journal: Path, ending: RunEnding) -> None:
        """Add a run, or restart it; `ending` is updated by the caller when the run ends."""
        self._restarted.add(journal)
        self._journals[journal] = ending

    def stop(self) -> None:
        """Finish the current step and end the thread."""
        self._thread.stop(timeout=30.0)

    def _work(self) -> None:
        from ._run_feed import RunFeed  # seconds of imports, which must not delay storing

        if not self._journals:
            return
        try:
            self._step(RunFeed)
            self._backoff.reset()
            self._trouble = ""
        except Exception as exc:  # from Tiled; nothing is lost, so try again later
            self._open_circuit(exc)

    def _step(self, create_feed: type[RunFeed]) -> None:
        if self._client is None:
            self._client = self._connect()
        for journal, ending in list(self._journals.items()):
            if journal in self._restarted:
                self._restarted.discard(journal)
                self._drop(journal)
                self._postponed.pop(journal, None)
            if journal in self._postponed and time.monotonic() < self._postponed[journal].until:
                continue
            feed = self._feeds.get(journal)
            if feed is None:
                feed = self._feeds[journal] = create_feed(
                    journal, self._client, self._ledger, self._layout, ending
                )
            try:
                complete = feed.step()
                self._postponed.pop(journal, None)
            except Exception as exc:
                if _is_server_error(exc):
                    raise
                self._postpone(journal, exc)
                continue
            if complete and journal not in self._restarted:
                del self._journals[journal], self._feeds[journal]

    def _connect(self) -> Any:
        from tiled.client import from_uri

        address = self._address()
        if address is None:
            raise ConnectionError(why_not_ready(self._layout))
        client = from_uri(address.uri, api_key=address.writer_key or None)
        return client.include_data_sources()  # type: ignore

    def _drop(self, journal: Path) -> None:
        feed = self._feeds.pop(journal, None)
        if feed is not None:
            feed.close()

    def _postpone(self, journal: Path, exc: Exception) -> None:
        """Try a run again later: if Tiled refuses it, the other runs must not wait."""
        if journal not in self._postponed:
            logger.exception("run %s is postponed", journal.stem, extra={"action": "catalog"})
        self._drop(journal)
        before = self._postponed.get(journal)
        backoff = before.backoff if before else Backoff(*RUN_BACKOFF)
        self._postponed[journal] = _Postponed(
            why=f"Tiled refuses run {journal.stem}, its data are safe: {exc}",
            backoff=backoff, until=time.monotonic() + backoff.next_delay(),
        )  # fmt: skip

    def _open_circuit(self, exc: Exception) -> None:
        trouble = f"Tiled: {exc}"
        if trouble != self._trouble:
            logger.warning("waiting: %s", trouble, extra={"action": "catalog"})
            logger.debug("the reason", exc_info=exc)
        self._trouble = trouble
        for feed in self._feeds.values():
            feed.close()
        self._feeds.clear()
        if self._client is not None:
            self._client.context.close()
            self._client = None
        self._thread.pause(self._backoff.next_delay())


def _is_server_error(exc: Exception) -> bool:
    """Return whether Tiled is unreachable or refuses everything, not only this run."""
    status = getattr(getattr(exc, "response", None), "status_code", None)
    unreachable = (ConnectionError, httpx.TransportError, sqlite3.OperationalError)
    return isinstance(exc, unreachable) or status in SERVER_ERRORS
