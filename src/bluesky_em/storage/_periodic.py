"""A thread that repeats an action, and the growing pause between attempts."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)


class PeriodicThread(threading.Thread):
    """A daemon thread that calls an action again and again until it is stopped.

    An exception does not end it: it is logged, once until its text changes or a call succeeds,
    and the action is called again after the interval.

    Args:
        name: of the thread, for log messages.
        interval: seconds between the end of a call and the next call.
        action: called without arguments.
        at_once: call the action when the thread starts, in any case once, instead of waiting for
            the first interval.
    """

    def __init__(
        self, name: str, interval: float, action: Callable[[], None], *, at_once: bool = False
    ):
        super().__init__(name=name, daemon=True)
        self._interval = interval
        self._action = action
        self._at_once = at_once
        self._stopping = threading.Event()
        self._error = ""

    def run(self) -> None:
        """Repeat the action; called by `start`."""
        if self._at_once:
            self._act()
        while not self._stopping.wait(self._interval):
            self._act()

    def pause(self, seconds: float) -> None:
        """Wait within the action; returns early when the thread is stopped."""
        self._stopping.wait(seconds)

    def stop(self, timeout: float | None = None) -> None:
        """Finish the current call and end; stopping twice is harmless.

        Args:
            timeout: seconds to wait for the end; None: until the call has returned.
        """
        self._stopping.set()
        self.join(timeout)

    def _act(self) -> None:
        try:
            self._action()
            self._error = ""
        except Exception as exc:  # one failed call must not end the work of this thread
            error = str(exc) or repr(exc)
            if error != self._error:
                expected = isinstance(exc, (OSError, sqlite3.OperationalError)) or (
                    type(exc) is sqlite3.DatabaseError  # damaged; its subclasses are our mistakes
                )
                logger.warning(
                    "%s: failed, and tried again every %g s: %s", self.name, self._interval, error,
                    exc_info=None if expected else exc,
                    extra={"action": "periodic"},
                )  # fmt: skip
            self._error = error


class Backoff:
    """Pauses between attempts, each twice as long as the one before, up to a limit.

    >>> backoff = Backoff(first=0.5, most=1.5)
    >>> [backoff.next_delay() for _ in range(4)]
    [0.5, 1.0, 1.5, 1.5]
    >>> backoff.reset()
    >>> backoff.next_delay()
    0.5

    Args:
        first: seconds of the first pause.
        most: seconds of the longest pause.
    """

    def __init__(self, first: float, most: float):
        self._first = first
        self._most = most
        self._delay = first

    def next_delay(self) -> float:
        """Return the seconds to wait now, and double the following pause."""
        delay, self._delay = self._delay, min(2 * self._delay, self._most)
        return delay

    def reset(self) -> None:
        """Begin with the first pause again: an attempt succeeded."""
        self._delay = self._first
