"""The journals of the open runs, and the thread that syncs them."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

from bluesky_em.acquisition.instrument_pc.faults import step
from bluesky_em.documents import Document
from bluesky_em.files.journal import Journal
from bluesky_em.files.layout import Layout
from bluesky_em.files.plain_values import Note, silent

from ._periodic import PeriodicThread
from .disk_reserve import DiskReserve

logger = logging.getLogger(__name__)

SYNC_INTERVAL = 0.1  # seconds; what a power cut may cost with durability="process"
RESERVE_INTERVAL = 5.0  # seconds between two attempts to restore the disk reserve


class OpenJournals:
    """One journal per open run. Only the thread waits for the disk.

    Args:
        layout: the storage folder.
        power_safe: sync each document before `append` returns.
        hold: called with the reason why detectors must wait, empty if they need not.
        note: called for each value that is kept in another form, as by `pack`.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        power_safe: bool,
        hold: Callable[[str], None],
        note: Note = silent,
    ):
        self._layout = layout
        self._power_safe = power_safe
        self._hold = hold
        self._note = note
        self._reserve = DiskReserve(layout.reserve)
        self._next_restore = 0.0
        self._open: dict[str, Journal] = {}
        self._unsynced: set[Journal] = set()
        self._ended: deque[Journal] = deque()
        self._thread = PeriodicThread("journals", SYNC_INTERVAL, self._maintain)
        self._thread.start()

    def __contains__(self, run: str | None) -> bool:
        return run in self._open

    @property
    def newest(self) -> str | None:
        """The most recently opened run that is still open; None if no run is open."""
        return list(self._open)[-1] if self._open else None

    @property
    def trouble(self) -> str:
        """Why some documents are only in memory; empty if none are."""
        late = [journal for journal in (*self._open.values(), *self._ended) if journal.unwritten]
        if not late:
            return ""
        count = sum(len(journal.unwritten) for journal in late)
        return (
            f"{self._layout.root} cannot be written ({late[0].trouble}): {count} documents wait "
            "for it in memory. Free some space on its disk, or reconnect it"
        )

    def begin(self, run: str) -> None:
        """Create a run's journal.

        Raises:
            FileExistsError: the run has one already.
            OSError: it cannot be created; the run must not begin.
        """
        path = self._layout.journal_of(run)
        try:
            self._open[run] = Journal(path, self._reserve.give_up, self._note)
        except FileExistsError:
            raise
        except OSError as exc:
            raise OSError(
                exc.errno,
                f"the run is not begun, since its journal {path} cannot be created "
                f"({exc.strerror or exc}): free some space on that disk, or give Storage another "
                "folder",
            ) from exc

    def append(self, run: str, name: str, document: Document) -> None:
        """Append a document to a run's journal, as `Journal.append` does."""
        journal = self._open[run]
        journal.append(name, document)
        step("engine: journalled")
        if journal.unwritten:
            self._hold(self.trouble)
        elif self._power_safe:
            journal.sync()
        else:
            self._unsynced.add(journal)

    def end(self, run: str) -> None:
        """Pass a run's journal to the thread, which syncs and closes it: a plan never waits."""
        self._ended.append(self._open.pop(run))

    def close(self) -> None:
        """Close all journals; closing twice is harmless.

        Raises:
            OSError: some documents are only in memory.
        """
        self._thread.stop()
        for journal in (*self._ended, *self._open.values()):
            journal.close()

    def _maintain(self) -> None:
        self._sync()
        if time.monotonic() >= self._next_restore:
            self._next_restore = time.monotonic() + RESERVE_INTERVAL
            self._reserve.restore()

    def _sync(self) -> None:
        for journal in list(self._open.values()):
            if journal.unwritten and journal.catch_up():
                logger.warning("%s can be written again, nothing is lost", journal.path)
        for journal in list(self._unsynced):
            self._unsynced.discard(journal)
            journal.sync()
        while self._ended:
            self._ended[0].close()
            self._ended.popleft()
        self._hold(self.trouble)
