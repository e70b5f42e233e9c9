"""A run that Tiled refused: when it is tried again, and in which form."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from .._periodic import Backoff
from ._fallback import Fallback

if TYPE_CHECKING:
    from ._run_feed import RunFeed

logger = logging.getLogger(__name__)

RUN_BACKOFF = (1.0, 600.0)  # seconds, first and longest wait before a refused run is tried again
REPEAT_INTERVAL = 60.0  # seconds after which an error counts as the first one again


class Refusal:
    """What is known of a run that Tiled refused, until the run is complete.

    Args:
        run: its uid.
    """

    def __init__(self, run: str):
        self._run = run
        self.fallback = Fallback()
        """the form of the next attempt"""
        self.why = ""
        """why the run waits; empty while it does not"""
        self.until = 0.0
        """time of the next attempt, on the monotonic clock"""
        self._backoff = Backoff(*RUN_BACKOFF)
        self._failed = -REPEAT_INTERVAL

    def postpone(self, exc: Exception) -> None:
        """Try the run again in the same form, after a pause: Tiled has other rows of it."""
        logger.warning("run %s is written again: %s", self._run, exc, extra={"action": "catalog"})
        self.why = f"Tiled has other rows of run {self._run}, its data are safe: {exc}"
        self.until = time.monotonic() + self._backoff.next_delay()

    def add(self, exc: Exception, feed: RunFeed, *, repeat: bool) -> None:
        """Decide what happens after another error of the run.

        Args:
            exc: the error.
            feed: raised it; its columns show what may have caused it.
            repeat: try the run unchanged first, as the error may pass.
        """
        now, before = time.monotonic(), self._failed
        self._failed = self.until = now
        self.why = f"Tiled refuses run {self._run}, its data are safe: {exc}"
        if repeat and now - before >= REPEAT_INTERVAL:
            logger.warning("%s", self.why, extra={"action": "catalog"})
            self.until += self._backoff.next_delay()
        elif feed.simplify(exc, self.fallback):
            logger.warning(
                "run %s is written in a simpler form, %s: %s", self._run, self.fallback, exc,
                exc_info=exc, extra={"action": "catalog"},
            )  # fmt: skip
        else:  # it was not what is in the run
            logger.error("run %s is postponed", self._run, exc_info=exc)
            self.fallback = Fallback()
            self.until += self._backoff.next_delay()
