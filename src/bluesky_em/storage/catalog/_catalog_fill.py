"""Fills a catalog that lacks runs: one that was deleted, replaced, or restored from a copy."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

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
        self._missing = 0

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
        try:
            is_there = is_in_tiled(client, self._layout, journal)
        except (OSError, ValueError) as exc:  # `doctor` reports it
            logger.error("run %s is left out: %s", journal.stem, exc, extra={"action": "catalog"})
            is_there = True
        self._queue.popleft()
        if not is_there and self._ledger.is_complete(journal.stem):
            self._missing += 1
            ending = _ending_of(journal)
            self._ledger.reopen_run(journal.stem)
            self._feed(journal, ending)

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
        if not journal.exists() or is_in_tiled(client, self._layout, journal):
            return ""
        return f"Tiled does not have all of run {newest}, which was complete, and may lack others"

    def _begin(self, why: str, known: KnownCatalog) -> None:
        self.trouble = f"{why}: those are added again, newest first. Their data are safe"
        logger.warning("%s", self.trouble, extra={"action": "catalog"})
        self._ledger.write_catalog(replace(known, lacks=why))
        complete = self._ledger.complete_runs()
        journals = [path for path in self._layout.journals() if path.stem in complete]
        self._queue.extend(sorted(journals, key=_last_change, reverse=True))

    def _end(self) -> None:
        logger.warning(
            "Tiled has all complete runs again: %d were written", self._missing,
            extra={"action": "catalog"},
        )  # fmt: skip
        self._ledger.write_catalog(self._found)
        self.trouble, self._missing = "", 0


def _last_change(journal: Path) -> float:
    return journal.stat().st_mtime


def _ending_of(journal: Path) -> RunEnding:
    """Return how a complete run has ended."""
    stopped = any(name == "stop" for name, _ in journal_reader.read(journal))
    return RunEnding(files_closed=True, abandoned=not stopped)
