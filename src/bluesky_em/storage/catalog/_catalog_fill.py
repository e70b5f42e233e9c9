"""Fills a catalog that lacks runs: one that was deleted, replaced, or restored from a copy."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from bluesky_em.files import journal_reader
from bluesky_em.files.layout import Layout
from bluesky_em.files.ledger import KnownCatalog
from bluesky_em.files.ledger_writer import LedgerWriter
from bluesky_em.files.tiled.row_map import KEY

from ._run_ending import RunEnding
from ._run_in_tiled import is_in_tiled

logger = logging.getLogger(__name__)


class CatalogFill:
    """Finds the complete runs that Tiled lacks, and has them written again, newest first.

    The ledger knows the catalog that the feed wrote to last. If Tiled has another one, an older
    copy of it, or lacks the run that became complete last, then every complete run is looked up.
    That the runs are being looked up is in the ledger, too: the next writer continues with it. If
    nothing is wrong, only one run is looked up.

    Args:
        layout: the storage folder.
        ledger: knows the catalog and the complete runs.
        feed: called with the journal of a run that Tiled lacks, and with how it ended.
    """

    def __init__(
        self, layout: Layout, ledger: LedgerWriter, feed: Callable[[Path, RunEnding], None]
    ):
        self.trouble = ""
        """what is wrong with the catalog; empty if nothing is"""
        self._layout = layout
        self._ledger = ledger
        self._feed = feed
        self._queue: deque[Path] = deque()
        self._found = KnownCatalog()
        self._fed: list[str] = []
        self._left_out: set[str] = set()

    def compare(self, client: Any) -> None:
        """Compare Tiled's catalog with the one that the ledger knows; called when connected.

        Raises:
            httpx.HTTPError: Tiled does not answer.
        """
        mark = client.metadata.get(KEY, {})
        starts = [*mark.get("starts", [""])]
        self._found = KnownCatalog(identity=mark.get("catalog", ""), start=starts[-1])
        known = self._ledger.catalog()
        why = known.lacks or self._why(client, known, starts)
        if not why:
            self._ledger.write_catalog(self._found)
        elif not self.trouble:
            self._begin(why, known)

    def step(self, client: Any) -> None:
        """Look up one run, and have it written if Tiled lacks it.

        Raises:
            httpx.HTTPError: Tiled does not answer.
        """
        if not self.trouble:
            return
        if not self._queue:
            self._end()
            return
        journal = self._queue[0]
        ending = self._missing_run(client, journal)
        self._queue.popleft()
        if ending is not None and self._ledger.is_complete(journal.stem):
            self._ledger.reopen_run(journal.stem)
            self._feed(journal, ending)
            self._fed.append(journal.stem)

    def _missing_run(self, client: Any, journal: Path) -> RunEnding | None:
        """Return how a complete run ended that Tiled lacks; None: Tiled has it, or it is left out.

        A run is left out if it cannot be compared for a reason of its own.

        Raises:
            httpx.HTTPError: Tiled does not answer.
        """
        try:
            return None if is_in_tiled(client, self._layout, journal) else _ending_of(journal)
        except (httpx.HTTPError, ConnectionError):
            raise
        except Exception as exc:  # whatever damaged bytes or metadata that make no sense lead to
            run = journal.stem
            logger.error(
                "run %s cannot be compared with Tiled and is left out: %s: %s. `bluesky-em verify` "
                "says what is wrong. If it is the journal, restore it from a backup. Then "
                "`bluesky-em retry %s`", run, type(exc).__name__, exc, run,
                extra={"action": "catalog", "run": run},
            )  # fmt: skip
            self._left_out.add(run)
            return None

    def _why(self, client: Any, known: KnownCatalog, starts: list[str]) -> str:
        """Return why Tiled may lack complete runs; empty if it has all of them."""
        if known.identity and self._found.identity != known.identity:
            return "Tiled has another catalog than before, which may lack runs"
        if known.start and known.start not in starts:
            return "Tiled has an older copy of its catalog, which may lack runs"
        newest = self._ledger.last_completed()
        if newest is None or not self._ledger.is_complete(newest):
            return ""
        journal = self._layout.journal_of(newest)
        if not journal.exists() or self._missing_run(client, journal) is None:
            return ""
        return f"Tiled does not have all of run {newest}, which was complete, and may lack others"

    def _begin(self, why: str, known: KnownCatalog) -> None:
        self._fed.clear()
        self._left_out.clear()
        self.trouble = f"{why}: those are added again, newest first. Their data are safe"
        logger.warning("%s", self.trouble, extra={"action": "catalog"})
        self._ledger.write_catalog(replace(known, lacks=why))
        complete = self._ledger.complete_runs()
        journals = [path for path in self._layout.journals() if path.stem in complete]
        self._queue.extend(sorted(journals, key=self._layout.last_change, reverse=True))

    def _end(self) -> None:
        written = sum(bool(self._ledger.is_complete(run)) for run in self._fed)
        but = f" but {len(self._left_out)}" if self._left_out else ""
        logger.warning(
            "Tiled has all complete runs%s again: %d were written", but, written,
            extra={"action": "catalog"},
        )  # fmt: skip
        self._ledger.write_catalog(self._found)
        self.trouble = ""


def _ending_of(journal: Path) -> RunEnding:
    """Return how a complete run has ended."""
    stopped = any(name == "stop" for name, _ in journal_reader.read(journal))
    return RunEnding(files_closed=True, abandoned=not stopped)
