"""Notice a thread of the writer that does not come back from a call."""

from __future__ import annotations

import faulthandler
import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from bluesky_em.files.atomic import write_whole

from .._periodic import PeriodicThread
from ..activity import Activity

logger = logging.getLogger(__name__)

INTERVAL = 1.0  # seconds between two looks
SILENCE_LIMIT = 3.0  # seconds without progress, then it is reported
_STDERR = 2  # file descriptor; the log of the process
END_LIMIT = 60.0  # seconds without progress, then the writer ends and is started again
FORGET_TIMEOUT = 600.0  # seconds in which nothing hangs, then a hang is a new one


class Watchdog:
    """Report activities without progress, and write the stacks of all threads to the log.

    After `END_LIMIT` it ends the process, which is started again: a new one has new connections and
    file handles. It does so once for each call, since a call that is only slow needs time; after
    `FORGET_TIMEOUT` without a hang the same call is a new one.

    A call that holds the interpreter's lock stops this thread, too. Then the stacks are written all
    the same, and the heartbeats of the writer stop.

    Args:
        activities: returns those to watch.
        memory: a file for the call for which the process was ended last.
    """

    def __init__(self, activities: Callable[[], Iterable[Activity]], memory: Path):
        self._activities = activities
        self._memory = memory
        self._told: set[Activity] = set()
        self._last_silent = time.monotonic()
        self._thread = PeriodicThread("watchdog", INTERVAL, self._look)
        self._thread.start()

    @property
    def trouble(self) -> str:
        """The activities that make no progress; empty if all do."""
        return "; ".join(
            f"{each.name}: no progress for {each.silence:.0f} s, in {each.call}"
            for each in self._silent(SILENCE_LIMIT)
        )

    def stop(self) -> None:
        """End the thread; stopping twice is harmless."""
        self._thread.stop()
        faulthandler.cancel_dump_traceback_later()

    def _look(self) -> None:
        faulthandler.dump_traceback_later(INTERVAL + SILENCE_LIMIT, file=_STDERR)
        silent = self._silent(SILENCE_LIMIT)
        if set(silent) - self._told:
            logger.warning("waiting: %s", self.trouble, extra={"action": "watch"})
            faulthandler.dump_traceback(_STDERR)
        self._told = set(silent)
        if silent:
            self._last_silent = time.monotonic()
        elif time.monotonic() - self._last_silent >= FORGET_TIMEOUT:
            self._memory.unlink(missing_ok=True)
        for activity in self._silent(END_LIMIT):
            self._end(f"{activity.name}: {activity.call}")

    def _silent(self, limit: float) -> list[Activity]:
        return [each for each in self._activities() if each.silence > limit]

    def _end(self, call: str) -> None:
        if self._memory.exists() and self._memory.read_text("utf-8") == call:
            return
        write_whole(self._memory, call)
        logger.error("ending after %.0f s without progress: %s", END_LIMIT, call)
        os._exit(1)
