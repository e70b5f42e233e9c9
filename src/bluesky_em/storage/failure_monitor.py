"""Detect lasting storage failures; trouble of less than 30 s is not reported."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from bluesky_em.files.ledger import Ledger

from ._periodic import PeriodicThread

logger = logging.getLogger(__name__)

CHECK_INTERVAL = 1.0  # seconds
TROUBLE_TIMEOUT = 30.0  # seconds that trouble may last before it is a failure


class FailureMonitor:
    """Checks a storage folder in a thread, and logs a warning when storage has failed.

    Storage has failed when trouble has lasted for `TROUBLE_TIMEOUT` seconds or a frame is lost.

    Args:
        ledger: of that folder, read-only.
        trouble: returns at once why the journals cannot be written; empty if they can.
    """

    def __init__(self, ledger: Ledger, trouble: Callable[[], str]):
        self.failure = ""
        """why storage has failed; empty while it works"""
        self._ledger = ledger
        self._trouble = trouble
        self._heartbeat = 0.0
        self._heartbeat_seen = self._last_healthy = time.monotonic()
        self._acknowledged = self._ledger.failed_in_events()[0]
        self._thread = PeriodicThread("failure monitor", CHECK_INTERVAL, self._update)
        self._thread.start()

    def acknowledge(self) -> None:
        """Clear the failure; report only trouble and lost frames that are new from now on."""
        self._last_healthy = time.monotonic()
        self._acknowledged = self._ledger.failed_in_events()[0]
        self.failure = ""

    def close(self) -> None:
        """Stop checking; closing twice is harmless."""
        self._thread.stop()

    def _update(self) -> None:
        failure = self._check()
        if failure and not self.failure:
            logger.warning("storage: %s", failure, extra={"action": "health"})
        self.failure = failure

    def _check(self) -> str:
        trouble = self._trouble() or self._writer_trouble()
        now = time.monotonic()
        if not trouble:
            self._last_healthy = now
        count, reason = self._ledger.failed_in_events()
        if count > self._acknowledged:
            return f"{count - self._acknowledged} frames failed, the last one: {reason}"
        return trouble if now - self._last_healthy >= TROUBLE_TIMEOUT else ""

    def _writer_trouble(self) -> str:
        heartbeat, now = self._ledger.heartbeat(), time.monotonic()
        if heartbeat.time != self._heartbeat:  # not compared with our clock: wall clocks may jump
            self._heartbeat, self._heartbeat_seen = heartbeat.time, now
        silence = now - self._heartbeat_seen
        if silence > CHECK_INTERVAL + TROUBLE_TIMEOUT:
            return f"the writer has given no sign of life for {silence:.0f} s"
        return heartbeat.trouble
