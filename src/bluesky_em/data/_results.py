"""Results that analyses publish for a run's plan: values by name."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from bluesky_em.files.results import Result

SHUTDOWN_TIMEOUT = 2.0  # seconds that `close` waits for each thread

logger = logging.getLogger(__name__)


class ResultStore(Protocol):
    """A store of results of one run."""

    def publish(self, result: Result) -> None:
        """Add a result."""
        ...

    def follow(self, stopped: threading.Event) -> Iterator[Result]:
        """Yield results as they are published, until stopped."""
        ...


class Results:
    """The results published for one run, received by threads of this object.

    Args:
        run: its uid.
        stores: where results are published; each is followed in a thread.
    """

    def __init__(self, run: str, stores: list[ResultStore]):
        self.run = run
        self._found: dict[tuple[str, str], tuple[Result, ResultStore]] = {}
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._follow, args=(store,), name="results", daemon=True)
            for store in stores
        ]
        for thread in self._threads:
            thread.start()

    @property
    def latest(self) -> Mapping[str, Any]:
        """The newest value of each name, for results of the run, not of single references."""
        found = list(self._found.items())
        return {name: result.value for (of, name), (result, _) in found if of == self.run}

    def get(self, of: str, name: str, default: Any = None) -> Any:
        """Return the newest value of a name, for a run or a reference."""
        found = self._found.get((of, name))
        return default if found is None else found[0].value

    def wait(self, of: str, name: str, timeout: float) -> bool:
        """Wait until a value of this name has been published; return whether it has."""
        with self._changed:
            self._changed.wait_for(
                lambda: (of, name) in self._found or self._stopped.is_set(), timeout
            )
            return (of, name) in self._found

    @property
    def is_listening(self) -> bool:
        """Whether a thread is still running."""
        return any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """Ask the threads to stop; returns at once."""
        self._stopped.set()
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Stop the threads and wait for them; closing twice is harmless."""
        self.stop()
        for thread in self._threads:
            thread.join(SHUTDOWN_TIMEOUT)

    def _follow(self, store: ResultStore) -> None:
        for result in store.follow(self._stopped):
            with self._changed:
                key = result.of, result.name
                before, before_store = self._found.get(key, (result, store))
                # within one store the order counts: clocks of the publishers' PCs may differ
                if before_store is store or before.time <= result.time:
                    self._found[key] = result, store
                self._changed.notify_all()
