"""Detect that storage endangers frames of open runs; trouble of less than 30 s is not reported.

Other trouble, such as frames of a run that has ended, an earlier session's damaged journal or a
Tiled server that takes long to start, is logged and nothing else: no open run depends on it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection

from bluesky_em.files.ledger import Heartbeat, Ledger, SpoolFill
from bluesky_em.reference import ReferenceState

from ._periodic import PeriodicThread
from .backlog import Backlog
from .run_frames import RunFrames

logger = logging.getLogger(__name__)

CHECK_INTERVAL = 1.0  # seconds
TROUBLE_TIMEOUT = 30.0  # seconds that trouble may last before it is a failure
SPOOL_LIMIT = 0.8  # fill level at which a spool is a failure: detectors will soon have to wait


class FailureMonitor:
    """Checks a storage folder in a thread, and logs a warning when storage has failed.

    Storage has failed when a frame of an open run is lost, when frames of open runs have waited for
    `TROUBLE_TIMEOUT` seconds and none was stored, or when a spool that an open run uses is filled
    to `SPOOL_LIMIT`.

    Args:
        ledger: of that folder, read-only.
        frames: what the runs of this process have handed out.
        open_runs: returns the uids of the open runs.
        trouble: returns at once why the journals cannot be written; empty if they can.
        catalog: storage has also failed when stored frames of open runs have waited for as long,
            and none was catalogued.
    """

    def __init__(
        self,
        ledger: Ledger,
        frames: RunFrames,
        open_runs: Callable[[], Collection[str]],
        trouble: Callable[[], str],
        *,
        catalog: bool = False,
    ):
        self.failure = ""
        """why storage has failed; empty while it works"""
        self._ledger = ledger
        self._frames = frames
        self._open_runs = open_runs
        self._trouble = trouble
        now = time.monotonic()
        stages = [ReferenceState.STORED, *([ReferenceState.CATALOGUED] if catalog else [])]
        self._backlogs = [Backlog(ledger, stage) for stage in stages]
        self._writer = _WriterSigns(now)
        self._documents = _Lasting(now)
        self._other = _Lasting(now)
        self._failed: dict[str, tuple[int, str]] = {}
        self._acknowledged: dict[str, int] = {}
        self._open: set[str] = set()
        self._ended: set[str] = set()
        self._full: dict[str, str] = {}
        self._acknowledged_full: set[str] = set()
        self._unreadable = ""
        self._lock = threading.Lock()  # held for computing only: a plan may wait for it
        self._thread = PeriodicThread("failure monitor", CHECK_INTERVAL, self._update)
        self._thread.start()

    def acknowledge(self) -> None:
        """Clear the failure; report only trouble, lost frames and full spools that are new."""
        with self._lock:
            now = time.monotonic()
            for lasting in (self._documents, self._other):
                lasting.since = now
            for backlog in self._backlogs:
                backlog.restart(now)
            self._writer.seen = now
            self._acknowledged = {run: count for run, (count, _) in self._failed.items()}
            self._acknowledged_full = {*self._full}
            self.failure = ""

    def close(self) -> None:
        """Stop checking; closing twice is harmless."""
        self._thread.stop()

    def _update(self) -> None:
        try:
            self._unreadable = ""
            self._look()
        except Exception as exc:
            self._unreadable = f"the ledger {self._ledger.path} cannot be read ({exc})"
            raise  # the thread logs it once, and looks again
        finally:
            self._report(time.monotonic())

    def _report(self, now: float) -> None:
        with self._lock:
            failure, before = self._check(now), self.failure
            self.failure = failure
            other = self._writer.trouble(now) or self._stalled(self._ended, now)
            new_other = self._other.begins(other, now, TROUBLE_TIMEOUT)
        if failure and not before:
            logger.warning("storage: %s", failure, extra={"action": "health"})
        elif new_other and not failure:
            logger.warning(
                "storage: %s. No frame of an open run waits for that", other,
                extra={"action": "health"},
            )  # fmt: skip

    def _look(self) -> None:
        """Read what there is to know, the most important part first."""
        now = time.monotonic()
        self._documents.see(self._trouble(), now)
        open_runs = {*self._open_runs()}  # before the frames: a run that has ended adds none
        frames = self._frames.all()
        self._open, self._ended = open_runs, {each.run for each in frames} - open_runs
        for backlog in self._backlogs:
            backlog.look(frames, now)
        self._writer.see(self._ledger.heartbeat(), now)
        self._failed = {run: self._ledger.failed_in_events(run) for run in open_runs}
        servers = {each.server for each in frames if each.run in open_runs}
        self._see_fills([fill for fill in self._ledger.spool_fills() if fill.server in servers])
        for each in frames:
            if each.run not in open_runs and all(b.has_all(each.base) for b in self._backlogs):
                self._frames.forget(each.base)
                for backlog in self._backlogs:
                    backlog.forget(each.base)

    def _see_fills(self, fills: list[SpoolFill]) -> None:
        self._full = {
            fill.server: f"the spool of {fill.server} is {fill.level:.0%} full"
            for fill in fills
            if fill.level >= SPOOL_LIMIT
        }
        self._acknowledged_full &= self._full.keys()

    def _check(self, now: float) -> str:
        """Return the first reason why storage has failed, the worst one first."""
        return (
            self._lost()
            or self._documents.lasting(now, TROUBLE_TIMEOUT)
            or self._stalled(self._open, now)
            or next((why for s, why in self._full.items() if s not in self._acknowledged_full), "")
        )

    def _lost(self) -> str:
        for run, (count, reason) in self._failed.items():
            new = count - self._acknowledged.get(run, 0)
            if new > 0:
                return f"{new} frames failed, the last one: {reason}"
        return ""

    def _stalled(self, runs: set[str], now: float) -> str:
        waiting, silence = self._backlogs[0].waiting(runs), self._writer.silence(now)
        if waiting and silence and not self._unreadable:
            return f"{silence}, and {waiting} frames wait to be stored"
        for backlog in self._backlogs:
            if stalled := backlog.stalled(runs, now, TROUBLE_TIMEOUT):
                why = self._unreadable or self._writer.heartbeat.trouble or "no reason is known"
                return f"{stalled}: {why}"
        return ""


class _Lasting:
    """A trouble, and since when there has been one."""

    def __init__(self, now: float):
        self.since = now
        self._text = ""
        self._has_lasted = False

    def see(self, text: str, now: float) -> None:
        """Take note of the trouble at this moment; empty for none."""
        if not text:
            self.since = now
        self._text = text

    def lasting(self, now: float, timeout: float) -> str:
        """Return the trouble if there has been one for `timeout` seconds."""
        return self._text if now - self.since >= timeout else ""

    def begins(self, text: str, now: float, timeout: float) -> bool:
        """Take note of the trouble; return whether it has lasted for `timeout` seconds just now."""
        self.see(text, now)
        before, self._has_lasted = self._has_lasted, bool(self.lasting(now, timeout))
        return self._has_lasted and not before


class _WriterSigns:
    """The writer's heartbeats, timed by our own clock: wall clocks may jump."""

    def __init__(self, now: float):
        self.heartbeat = Heartbeat(time=0.0, trouble="")
        self.seen = now
        """when the newest heartbeat was first seen"""

    def see(self, heartbeat: Heartbeat, now: float) -> None:
        """Take note of the newest heartbeat."""
        if heartbeat.time != self.heartbeat.time:
            self.seen = now
        self.heartbeat = heartbeat

    def silence(self, now: float) -> str:
        """Describe for how long there was no heartbeat; empty if that is not long."""
        silence = now - self.seen
        if silence <= CHECK_INTERVAL + TROUBLE_TIMEOUT:
            return ""
        return f"the writer has given no sign of life for {silence:.0f} s"

    def trouble(self, now: float) -> str:
        """Return what keeps the writer from continuing; empty if nothing does."""
        return self.silence(now) or self.heartbeat.trouble
