"""The journals of the runs that are open, and the thread that looks after them."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from bluesky_em.acquisition.instrument_pc.faults import step
from bluesky_em.documents import Document
from bluesky_em.files.journal import Journal
from bluesky_em.files.layout import Layout

from .disk_reserve import DiskReserve

logger = logging.getLogger(__name__)

SYNC_PERIOD = 0.1  # seconds; with durability="process", what a power cut may cost
RESERVE_PERIOD = 5.0  # seconds between two looks whether the reserve can be had back


class OpenJournals:
    """One journal per open run. Only `sync`, in a thread, waits for the disk.

    Args:
        layout: the storage folder.
        power_safe: sync each document before going on.
        hold: told why detectors must wait now; with an empty string, that they need not.
    """

    def __init__(self, layout: Layout, *, power_safe: bool, hold: Callable[[str], None]):
        self._layout = layout
        self._power_safe = power_safe
        self._hold = hold
        self._reserve = DiskReserve(layout.reserve)
        self._open: dict[str, Journal] = {}
        self._unsynced: set[Journal] = set()
        self._ended: deque[Journal] = deque()
        self._closing = threading.Event()
        self._syncer = threading.Thread(target=self._look_after, name="journals", daemon=True)
        self._syncer.start()

    def __contains__(self, run: str | None) -> bool:
        return run in self._open

    @property
    def newest(self) -> str | None:
        """The run that was opened last, of those still open."""
        return list(self._open)[-1] if self._open else None

    @property
    def trouble(self) -> str:
        """Why documents are in memory only; empty if none is."""
        late = [journal for journal in (*self._open.values(), *self._ended) if journal.unwritten]
        if not late:
            return ""
        count = sum(len(journal.unwritten) for journal in late)
        return (
            f"{self._layout.root} cannot be written ({late[0].trouble}): {count} documents wait "
            "for it in memory. Free its disk, or bring it back"
        )

    def begin(self, run: str) -> None:
        """Make a run's journal.

        Raises:
            FileExistsError: the run has one already.
            OSError: it cannot be made; a run must not begin like that.
        """
        path = self._layout.journal_of(run)
        try:
            self._open[run] = Journal(path, self._reserve.give_up)
        except FileExistsError:
            raise
        except OSError as exc:
            raise OSError(
                exc.errno,
                f"the run is not begun, since its journal {path} cannot be made "
                f"({exc.strerror or exc}): free that disk, or give Storage another folder",
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
        """Have a run's journal synced and closed, soon: a slow disk is no plan's matter."""
        self._ended.append(self._open.pop(run))

    def close(self) -> None:
        """Close them all; closing twice is harmless.

        Raises:
            OSError: documents are left that are in memory only.
        """
        self._closing.set()
        self._syncer.join()
        for journal in (*self._ended, *self._open.values()):
            journal.close()

    def _look_after(self) -> None:
        next_reserve, said = 0.0, ""
        while not self._closing.wait(SYNC_PERIOD):
            try:
                self._sync()
                said = ""
                if time.monotonic() >= next_reserve:
                    next_reserve = time.monotonic() + RESERVE_PERIOD
                    self._reserve.restore()
            except OSError as exc:
                if str(exc) != said:
                    logger.warning("the journals wait: %s", exc, extra={"action": "sync"})
                said = str(exc)

    def _sync(self) -> None:
        for journal in list(self._open.values()):
            if journal.unwritten and journal.catch_up():
                logger.warning("%s goes on, nothing is lost", journal.path)
        for journal in list(self._unsynced):
            self._unsynced.discard(journal)
            journal.sync()
        while self._ended:
            self._ended[0].close()
            self._ended.popleft()
        self._hold(self.trouble)
