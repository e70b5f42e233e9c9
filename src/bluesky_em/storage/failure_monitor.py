"""Whether storage works: what passes by itself is told from what lasts."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from bluesky_em.files.ledger import Ledger

logger = logging.getLogger(__name__)

PERIOD = 1.0  # seconds between two looks
LASTING = 30.0  # seconds that trouble may last until it is called a failure


class FailureMonitor:
    """Looks after a storage folder, in a thread, and warns at the prompt when it has failed.

    That is: trouble that has lasted for `LASTING` seconds, or a frame that is lost.

    Args:
        ledger: of that folder, to read.
        trouble: tells what keeps the journals from being written, at once.
    """

    def __init__(self, ledger: Ledger, trouble: Callable[[], str]):
        self.failure = ""
        """why storage has failed; empty while it has not"""
        self._ledger = ledger
        self._trouble = trouble
        self._beat = 0.0
        self._beaten = self._sound = time.monotonic()
        self._forgiven = self._ledger.failed_in_events()[0]
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="health", daemon=True)
        self._thread.start()

    def forgive(self) -> None:
        """Take what has happened as noticed: only what comes from now on is a failure."""
        self._sound = time.monotonic()
        self._forgiven = self._ledger.failed_in_events()[0]
        self.failure = ""

    def close(self) -> None:
        """Look no more."""
        self._closing.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._closing.wait(PERIOD):
            failure = self._look()
            if failure and not self.failure:
                logger.warning("storage: %s", failure, extra={"action": "health"})
            self.failure = failure

    def _look(self) -> str:
        trouble = self._trouble() or self._writers_trouble()
        now = time.monotonic()
        if not trouble:
            self._sound = now
        count, reason = self._ledger.failed_in_events()
        if count > self._forgiven:
            return f"{count - self._forgiven} frames failed, the last one: {reason}"
        return trouble if now - self._sound >= LASTING else ""

    def _writers_trouble(self) -> str:
        heartbeat, now = self._ledger.heartbeat(), time.monotonic()
        if heartbeat.time != self._beat:  # compared with itself: wall clocks may jump
            self._beat, self._beaten = heartbeat.time, now
        if now - self._beaten > PERIOD + LASTING:
            return f"the writer has given no sign of life for {now - self._beaten:.0f} s"
        return heartbeat.trouble
