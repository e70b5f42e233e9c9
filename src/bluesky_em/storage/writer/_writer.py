"""The writer's main loop: reads journals, and passes frames and runs to the other threads."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import filelock

from bluesky_em.errors import StorageBusy
from bluesky_em.files import journal_repair, operator_requests
from bluesky_em.files.damaged import kept_copies
from bluesky_em.files.journal import is_abandoned
from bluesky_em.files.journal_reader import DamagedJournal, JournalReader
from bluesky_em.files.layout import Layout
from bluesky_em.files.ledger_writer import LedgerWriter
from bluesky_em.files.operator_requests import Action, Request
from bluesky_em.files.tiled.address import TiledAddress
from bluesky_em.frame import Frame
from bluesky_em.reference import ReferenceState

from ..activity import Activity
from ..catalog import Feeder, RunEnding
from ._frame_finder import FrameFinder
from ._frame_transfer import FrameTransfer
from ._watchdog import Watchdog

logger = logging.getLogger(__name__)

POLL_INTERVAL = 0.01  # seconds between two looks at the journals
HEARTBEAT_INTERVAL = 1.0  # seconds
PROGRESS_TIMEOUT = 30.0  # seconds without progress, after the parent has ended
DISK_RETRY_INTERVAL = 1.0  # seconds
DISK_ERRORS = (OSError, sqlite3.OperationalError)  # raised when a disk is full or away


@dataclass
class _Run:
    """A run whose journal may still grow."""

    uid: str
    reader: JournalReader
    find: FrameFinder
    ending: RunEnding = field(default_factory=RunEnding)
    frames: list[Frame] = field(default_factory=list)
    """found in the journal, not yet in the ledger"""
    stopped: bool = False
    """its stop document is in the journal"""
    files: dict[str, dict[str, Frame]] = field(default_factory=dict)
    """the first frame of each file, by acquisition server and path"""
    troubles: dict[str, str] = field(default_factory=dict[str, str])
    """what cannot be read, and why"""
    due: float = 0.0
    """when it is tried again after that"""


class Writer:
    """Processes one storage folder: journals and spools in, files and catalog entries out.

    All its state is in journals, ledger, files and Tiled: it may die at any moment, and the next
    writer continues.

    Args:
        root: the storage folder.
        address: returns Tiled's address, or None while it is not known.

    Raises:
        StorageBusy: another writer works on this folder.
    """

    def __init__(self, root: Path, address: Callable[[], TiledAddress | None]):
        self._layout = Layout(root)
        self._lock = filelock.FileLock(self._layout.writer_lock)
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout as exc:
            raise StorageBusy(
                f"another writer works on {root}: one folder has one writer. "
                "`bluesky-em status` shows its state"
            ) from exc
        self._layout.journal.mkdir(parents=True, exist_ok=True)
        self._ledger = LedgerWriter(self._layout.ledger)
        self._ledger.forget_spool_fill()
        self._feeder = Feeder(self._layout, self._ledger, address)
        self._transfers: dict[str, FrameTransfer] = {}
        self._runs: dict[Path, _Run] = {}
        self._ended: dict[Path, RunEnding] = {}
        self._complete = self._ledger.complete_runs()
        self._aside: dict[str, str] = {}
        self._disk_trouble = ""
        self._seen_change = -1
        self._draining = threading.Event()
        self._activity = Activity("reading journals")
        self._watchdog = Watchdog(self._activities, self._layout.writer_hang)

    def run(self) -> None:
        """Work until `drain` was called and there is nothing left to do."""
        next_heartbeat = 0.0
        progress, left = time.monotonic(), -1
        while True:
            self._activity.progress()
            try:
                self._read_journals()
                now = time.monotonic()
                if now >= next_heartbeat:
                    next_heartbeat = now + HEARTBEAT_INTERVAL
                    self._do_each_second()
                    before, left = left, self._left()
                    if left != before:
                        progress = now
                self._disk_trouble = ""
            except DISK_ERRORS as exc:
                self._wait_for_disk(exc)
            idle = time.monotonic() - progress
            if self._draining.is_set() and (left == 0 or idle > PROGRESS_TIMEOUT):
                break
            time.sleep(POLL_INTERVAL)
        self.close()

    def drain(self) -> None:
        """Ask `run` to return once the work is done or makes no progress."""
        self._draining.set()

    @property
    def trouble(self) -> str:
        """What keeps frames from being stored or catalogued; empty if nothing does."""
        threads = [*self._transfers.values(), self._feeder, self._watchdog]
        troubles = [self._disk_trouble, *(each.trouble for each in threads), *self._aside.values()]
        runs = [words for run in list(self._runs.values()) for words in run.troubles.values()]
        return "; ".join(filter(None, [*troubles, *runs]))

    def close(self) -> None:
        """End all threads and release the folder."""
        self._watchdog.stop()
        for transfer in self._transfers.values():
            transfer.stop()
        self._feeder.stop()
        self._ledger.close()
        self._lock.release()

    def _activities(self) -> list[Activity]:
        transfers = [transfer.activity for transfer in list(self._transfers.values())]
        return [self._activity, self._feeder.activity, *transfers]

    def _do_each_second(self) -> None:
        self._ledger.write_heartbeat(self.trouble)
        self._seen_change = -1  # a folder's modification time is too coarse to be relied on alone
        self._find_abandoned()
        self._fulfil_requests()

    def _wait_for_disk(self, exc: Exception) -> None:
        """Log an error of the whole disk and wait; no run is set aside for it."""
        trouble = f"the storage disk: {exc}"
        if trouble != self._disk_trouble:
            logger.warning("waiting: %s", trouble, extra={"action": "disk"})
        self._disk_trouble = trouble
        self._activity.rest()
        self._draining.wait(DISK_RETRY_INTERVAL)

    def _left(self) -> int:
        """Count what is left: frames and runs not stored, and references not yet in Tiled."""
        counts = self._ledger.counts()
        waiting = counts[ReferenceState.CAPTURED] + counts[ReferenceState.STORED]
        waiting += len(self._ended)
        return waiting + sum(transfer.backlog for transfer in self._transfers.values())

    def _read_journals(self) -> None:
        change = self._layout.journal.stat().st_mtime_ns
        if change != self._seen_change:
            self._seen_change = change
            for path in sorted(self._unknown_journals(), key=self._layout.last_change):
                self._adopt(path)
        self._forget_complete()
        for path, run in list(self._runs.items()):
            self._activity.progress()  # after a restart there may be hundreds
            if time.monotonic() >= run.due:
                self._advance(path, run)

    def _unknown_journals(self) -> list[Path]:
        known = self._runs.keys() | self._ended.keys()
        return [
            path
            for path in self._layout.journals()
            if path not in known and path.stem not in self._complete
        ]

    def _forget_complete(self) -> None:
        for path in [path for path, ending in self._ended.items() if ending.complete]:
            del self._ended[path]
            self._complete.add(path.stem)

    def _adopt(self, path: Path) -> None:
        self._ledger.add_run(path.stem)
        run = _Run(path.stem, JournalReader(path), FrameFinder(self._layout))
        self._runs[path] = run
        self._feeder.add(path, run.ending)

    def _advance(self, path: Path, run: _Run) -> bool:
        """Read on in a run's journal; return whether that was possible to its present end.

        What is wrong with it concerns this run only.
        """
        with _charged_to(run, "journal"):
            try:
                self._read_on(path, run)
                return True
            except DISK_ERRORS:
                raise
            except Exception as exc:
                if isinstance(exc, DamagedJournal) and is_abandoned(path):  # e.g. by a power cut
                    self._repair(path, run, str(exc))
                else:
                    self._set_aside(path, run, exc)
        return False

    def _repair(self, path: Path, run: _Run, why: str) -> None:
        """Repair a damaged journal that no process writes; the next look reads on in it."""
        kept = journal_repair.repair(path, run.reader.offset)
        logger.warning(
            "%s. What is whole behind it is read, too. Frames that are in no document now stay in "
            "their spool as long as there is %s, the copy of the damaged journal", why, kept,
            extra={"action": "repair"},
        )  # fmt: skip

    def _set_aside(self, path: Path, run: _Run, exc: Exception) -> None:
        logger.error("run %s is set aside", run.uid, exc_info=exc, extra={"action": "look"})
        self._aside[run.uid] = f"run {run.uid} is set aside until the next start: {exc!r}"
        run.reader.close()
        del self._runs[path]
        self._complete.add(path.stem)

    def _read_on(self, path: Path, run: _Run) -> None:
        try:
            for name, document in run.reader:
                run.frames += run.find(name, document)
                run.stopped = run.stopped or name == "stop"
        finally:  # also the frames before the damaged part of a journal
            self._pass_on(run)
        if run.stopped:
            self._finish(path, run)

    def _pass_on(self, run: _Run) -> None:
        if not run.frames:
            return
        self._ledger.add_frames(run.frames)
        stages = self._ledger.stages([frame.reference for frame in run.frames])
        for frame in run.frames:
            run.files.setdefault(frame.server, {}).setdefault(frame.path, frame)
            if stages[frame.reference][0] is ReferenceState.CAPTURED:
                self._transfer_for(frame.server).add(frame)
        run.frames.clear()

    def _fulfil_requests(self) -> None:
        try:
            for path, request in operator_requests.pending(self._layout):
                self._fulfil(request)
                path.unlink()
        except ValueError as exc:
            logger.error("%s", exc, extra={"action": "request"})

    def _fulfil(self, request: Request) -> None:
        """Fulfil a request of an operator; doing it twice changes nothing."""
        path = self._layout.journal_of(request.run)
        if not path.exists():
            raise ValueError(f"a request to {request.action} names an unknown run: {request.run!r}")
        logger.info("asked to %s: %s", request.action, request, extra={"action": "request"})
        if request.action is Action.GIVE_UP:
            reason = f"given up by request: {request.reason or 'no reason was given'}"
            self._ledger.give_up(request.run, reason, request.references)
            return
        self._ledger.retry(request.run, request.references)
        self._ledger.reopen_run(path.stem)
        self._complete.discard(path.stem)
        self._aside.pop(request.run, None)
        self._ended.pop(path, None)
        if path in self._runs:
            self._runs.pop(path).reader.close()
        self._adopt(path)  # from its first document, whatever its state was

    def _find_abandoned(self) -> None:
        """Finish runs whose process died before their stop document."""
        for path, run in list(self._runs.items()):
            abandoned = False
            with _charged_to(run, "lock file"):
                abandoned = is_abandoned(path)
            if abandoned and self._is_at_end(path, run):
                run.ending.abandoned = True
                self._finish(path, run)

    def _is_at_end(self, path: Path, run: _Run) -> bool:
        """Read documents since the last look; return whether an abandoned run has no others."""
        if self._advance(path, run) and path in self._runs:
            offset = run.reader.offset
            with _charged_to(run, "journal"):
                if not journal_repair.has_hidden_documents(path, offset):
                    return True
                self._repair(path, run, f"{path} is damaged at byte {offset}")
        return False

    def _finish(self, path: Path, run: _Run) -> None:
        """Close the files of a run after its last frame; its journal is read no more."""
        run.frames += run.find.tails()
        self._pass_on(run)
        unread = run.find.unread()
        self._ledger.add_frames(unread)
        reason = "the run ended before it was read"
        if kept_copies(path):
            reason = "the journal was damaged. It stays in its spool"
        for frame in unread:
            self._ledger.mark_failed(frame.reference, f"in no event: {reason}")
        ending, servers = run.ending, set(run.files)
        ending.files_closed = not servers

        def closed(server: str) -> None:
            servers.discard(server)
            ending.files_closed = not servers

        for server, files in run.files.items():
            done = partial(closed, server)
            self._transfer_for(server).finish(run.uid, list(files.values()), done)
        run.reader.close()
        del self._runs[path]
        self._ended[path] = ending

    def _transfer_for(self, server: str) -> FrameTransfer:
        if server not in self._transfers:
            self._transfers[server] = FrameTransfer(server, self._layout.root, self._ledger)
        return self._transfers[server]


@contextlib.contextmanager
def _charged_to(run: _Run, part: str) -> Iterator[None]:
    """Charge an error to the run whose journal or lock file cannot be read: only this run waits."""
    try:
        yield
    except OSError as exc:
        trouble = f"the {part} of run {run.uid} cannot be read: {exc}"
        if trouble != run.troubles.get(part):
            logger.warning("waiting: %s", trouble, extra={"action": "disk"})
        run.troubles[part] = trouble
        run.due = time.monotonic() + DISK_RETRY_INTERVAL
    else:
        run.troubles.pop(part, None)
