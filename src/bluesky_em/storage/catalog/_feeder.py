"""The thread that writes runs to Tiled, one after the other."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from bluesky_em.documents import Document
from bluesky_em.files import journal_reader
from bluesky_em.files.layout import Layout
from bluesky_em.files.ledger_writer import LedgerWriter
from bluesky_em.files.tiled import results_container
from bluesky_em.files.tiled.address import TiledAddress, why_not_ready
from bluesky_em.files.tiled.health import check_health
from bluesky_em.files.tiled.renewal import RowsDiffer

from .._periodic import Backoff, PeriodicThread
from ..activity import Activity
from ._catalog_fill import CatalogFill
from ._refusal import Refusal
from ._run_ending import RunEnding

if TYPE_CHECKING:
    from ._run_feed import RunFeed

logger = logging.getLogger(__name__)

POLL_INTERVAL = 0.02  # seconds between two checks of the journals
NEWEST = 4  # runs that each round begins with
TURN = 0.1  # seconds after which it is the others' turn: older runs, or the newest again
BACKOFF = (0.5, 10.0)  # seconds, first and longest wait while Tiled is unreachable
SERVER_ERRORS = {401, 403, 429, 502, 503, 504}  # HTTP statuses that do not depend on the run


class Feeder:
    """Writes all journals that are not complete to Tiled.

    Each round begins with the newest runs, so that these do not wait for a backlog. Of the others
    come first those that can become complete, then those that have waited longest.

    While Tiled is unreachable, slow or refuses everything, one request is tried after each wait (a
    circuit breaker, not a retry per document). Then every run continues from what Tiled has.

    Tiled is taken for unreachable only if its health page does not answer either. Otherwise an
    error is the run's own: the run is tried again after all others, at most one such run in each
    round, and in a simpler form (`Fallback`) if it is refused again.

    Args:
        layout: the storage folder.
        ledger: has the stages of frames; catalogued frames are recorded in it.
        address: returns Tiled's address, or None while it is not known.
    """

    def __init__(
        self, layout: Layout, ledger: LedgerWriter, address: Callable[[], TiledAddress | None]
    ):
        self._trouble = ""
        self._refusals: dict[Path, Refusal] = {}
        self._layout = layout
        self._ledger = ledger
        self._address = address
        self._client: Any = None
        self._journals: dict[Path, RunEnding] = {}
        self._feeds: dict[Path, RunFeed] = {}
        self._restarted: set[Path] = set()
        self.activity = Activity("cataloguing")
        self._fill = CatalogFill(layout, ledger, self._add_again)
        self._again: set[Path] = set()
        self._backoff = Backoff(*BACKOFF)
        self._thread = PeriodicThread("feeder", POLL_INTERVAL, self._work)
        self._thread.start()

    @property
    def trouble(self) -> str:
        """Why runs do not become complete; empty when all is well."""
        refused = [run.why for run in list(self._refusals.values())]
        return "; ".join(
            filter(None, [self._trouble if self._journals else "", self._fill.trouble, *refused])
        )

    def add(self, journal: Path, ending: RunEnding) -> None:
        """Add a run, or restart it; `ending` is updated by the caller when the run ends."""
        self._restarted.add(journal)
        self._again.discard(journal)
        self._journals[journal] = ending

    def _add_again(self, journal: Path, ending: RunEnding) -> None:
        """Add a complete run that Tiled lacks; it comes after those that are not complete."""
        self.add(journal, ending)
        self._again.add(journal)

    def stop(self) -> None:
        """Finish the current step and end the thread."""
        self._thread.stop(timeout=30.0)

    def _work(self) -> None:
        from ._run_feed import RunFeed  # seconds of imports, which must not delay storing

        if not self._journals and self._client is not None and not self._fill.trouble:
            return
        try:
            self._step(RunFeed)
            self._backoff.reset()
            self._trouble = ""
        except Exception as exc:  # from Tiled; nothing is lost, so try again later
            self._open_circuit(exc)
        self.activity.rest()

    def _step(self, create_feed: type[RunFeed]) -> None:
        if self._client is None:
            client = self._connect()
            self._fill.compare(client)
            self._client = client
        for journal in self._in_turn():
            feed = self._feeds.get(journal)
            refusal = self._refusals.get(journal)
            if feed is None:
                start = _start_of(journal)
                if start == {} and not self._journals[journal].abandoned:
                    continue  # it has not begun, so its place in the catalog is not known
                place = results_container.place_of(self._client, start or {})
                feed = self._feeds[journal] = create_feed(
                    journal, place, self._ledger, self._layout, self._journals[journal],
                    refusal and refusal.fallback,
                )  # fmt: skip
            self.activity.progress()
            try:
                complete = feed.step()
            except Exception as exc:
                self._refuse(journal, exc)
                continue
            if refusal is not None:
                refusal.why = ""
            if complete and journal not in self._restarted:
                del self._journals[journal], self._feeds[journal]
                self._refusals.pop(journal, None)
                self._again.discard(journal)
        if not self._again - self._refusals.keys():  # one at a time
            self._fill.step(self._client)

    def _in_turn(self) -> Iterator[Path]:
        """Yield the runs to try now: all that Tiled takes, if time is left, then a refused one."""
        for journal in self._restarted & self._journals.keys():
            self._restarted.discard(journal)
            self._drop(journal)
            self._refusals.pop(journal, None)
        waiting = {path: run for path, run in self._refusals.items() if run.why}
        due = [path for path, run in waiting.items() if run.until <= time.monotonic()]
        behind = self._again | self._refusals.keys()
        runs = [path for path in list(self._journals) if path not in behind]
        tried_again = behind - waiting.keys()
        yield from _for_a_turn(runs[: -NEWEST - 1 : -1])
        yield from _for_a_turn(sorted(runs[:-NEWEST], key=self._urgency))
        yield from [path for path in list(self._journals) if path in tried_again]
        yield from sorted(due, key=lambda path: waiting[path].until)[:1]

    def _urgency(self, journal: Path) -> tuple[bool, float]:
        feed = self._feeds.get(journal)
        return not self._journals[journal].files_closed, feed.last_step if feed else 0.0

    def _refuse(self, journal: Path, exc: Exception) -> None:
        """Find out whether an error is the run's own; then only this run waits.

        Raises:
            Exception: Tiled is away or refuses everything.
        """
        feed = self._feeds[journal]
        self._drop(journal)
        refusal = self._refusals.setdefault(journal, Refusal(journal.stem))
        if isinstance(exc, RowsDiffer):
            refusal.postpone(exc)
            return
        is_remote = isinstance(exc, httpx.HTTPError)
        if _is_for_all(exc):
            raise exc
        if is_remote:
            check_health(self._client)
        refusal.add(exc, feed, repeat=is_remote)

    def _connect(self) -> Any:
        from tiled.client import from_uri

        address = self._address()
        if address is None:
            raise ConnectionError(why_not_ready(self._layout))
        client = from_uri(address.uri, api_key=address.writer_key or None)
        results_container.find_or_create(client)  # analysts' keys may not
        return client.include_data_sources()  # type: ignore

    def _drop(self, journal: Path) -> None:
        feed = self._feeds.pop(journal, None)
        if feed is not None:
            feed.close()

    def _open_circuit(self, exc: Exception) -> None:
        trouble = f"Tiled: {exc}"
        if trouble != self._trouble and self._journals:
            logger.warning("waiting: %s", trouble, extra={"action": "catalog"})
            logger.debug("the reason", exc_info=exc)
        self._trouble = trouble
        for feed in self._feeds.values():
            feed.close()
        self._feeds.clear()
        if self._client is not None:
            self._client.context.close()
            self._client = None
        self.activity.rest()
        is_known = self._address() is not None  # else the next try costs nothing
        self._thread.pause(self._backoff.next_delay() if is_known else BACKOFF[0])


def _start_of(journal: Path) -> Document | None:
    """Return a run's start document; empty if it has not begun, None if it cannot be read."""
    try:
        head = journal_reader.head(journal)
        return next((document for name, document in head if name == "start"), {})
    except (OSError, ValueError):  # the feed itself says so
        return None


def _for_a_turn(runs: Iterable[Path]) -> Iterator[Path]:
    """Yield at least one run, then others until `TURN` has passed."""
    began = time.monotonic()
    for path in runs:
        yield path
        if time.monotonic() > began + TURN:
            return


def _is_for_all(exc: Exception) -> bool:
    """Check whether an error does not depend on the run."""
    status = getattr(getattr(exc, "response", None), "status_code", None)
    return isinstance(exc, (ConnectionError, sqlite3.OperationalError)) or status in SERVER_ERRORS
