"""What analyses publish of a run, for its plan: verdicts and numbers, by name."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from bluesky_em.files.results import Result

ENDING = 2.0  # seconds that a thread may take to notice that nobody listens any more

logger = logging.getLogger(__name__)


class ResultStore(Protocol):
    """Where results are published."""

    def publish(self, result: Result) -> None:
        """Add a result."""
        ...

    def follow(self, stopped: threading.Event) -> Iterator[Result]:
        """Give results as they come, until stopped."""
        ...


class Results:
    """What has been published of one run so far; grows meanwhile, in threads of its own.

    Args:
        run: its uid.
        places: where results come to.
    """

    def __init__(self, run: str, places: list[ResultStore]):
        self.run = run
        self._found: dict[tuple[str, str], tuple[Result, ResultStore]] = {}
        self._news = threading.Condition()
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._follow, args=(place,), name="results", daemon=True)
            for place in places
        ]
        for thread in self._threads:
            thread.start()

    @property
    def latest(self) -> Mapping[str, Any]:
        """The newest value of each name, of those that are about the run as a whole."""
        found = list(self._found.items())
        return {name: result.value for (of, name), (result, _) in found if of == self.run}

    def get(self, of: str, name: str, default: Any = None) -> Any:
        """Give the newest value of a name, about a run or a reference."""
        found = self._found.get((of, name))
        return default if found is None else found[0].value

    def wait(self, of: str, name: str, timeout: float) -> bool:
        """Wait until something has been published by a name; tell whether it has."""
        with self._news:
            self._news.wait_for(
                lambda: (of, name) in self._found or self._stopped.is_set(), timeout
            )
            return (of, name) in self._found

    @property
    def is_listening(self) -> bool:
        """Whether a thread is still at it."""
        return any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """Listen no more, from soon on."""
        self._stopped.set()
        with self._news:
            self._news.notify_all()

    def close(self) -> None:
        """Listen no more; closing twice is harmless."""
        self.stop()
        for thread in self._threads:
            thread.join(ENDING)

    def _follow(self, place: ResultStore) -> None:
        for result in place.follow(self._stopped):
            with self._news:
                before, whence = self._found.get((result.of, result.name), (result, place))
                # in one place the later one counts, whatever its publisher's clock says
                if whence is place or before.time <= result.time:
                    self._found[result.of, result.name] = result, place
                self._news.notify_all()
