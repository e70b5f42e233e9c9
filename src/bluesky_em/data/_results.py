"""What analyses publish of a run, for its plan: verdicts and numbers, by name."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import filelock
import numpy as np

logger = logging.getLogger(__name__)

RESULTS = "results"
"""The stream of a run that results are events of, where they are published through Tiled."""
LOOK = 0.02  # seconds between two looks into the folder
LOCKED = 10.0  # seconds that others may take to publish theirs
ENDING = 2.0  # seconds that a thread may take to notice that nobody listens any more


@dataclass(frozen=True, kw_only=True)
class Result:
    """One thing that was published."""

    of: str
    """uid of the run, or a reference"""
    name: str
    value: Any
    """a number, a string, True, False, None, or lists and mappings of such"""
    time: float
    """when it was published, s since the epoch"""

    def __post_init__(self) -> None:
        texts = isinstance(self.of, str) and isinstance(self.name, str)
        if not (texts and self.of and self.name and isinstance(self.time, (int, float))):
            raise ValueError(
                f"cannot publish {self.value!r} as {self.name!r} of {self.of!r}: give a run's uid "
                "or a reference, and a name"
            )

    def dump(self) -> str:
        """Give it as a line of JSON.

        Raises:
            TypeError: its value is no plain data.
        """
        return json.dumps(asdict(self), default=plain_data)

    @classmethod
    def load(cls, line: str | bytes) -> Iterator[Result]:
        """Give the result in what `dump` gave; nothing if it is something else, which is said."""
        try:
            yield cls(**json.loads(line))
        except (ValueError, TypeError, RecursionError) as exc:
            logger.warning("%r is no result: %s", line, exc, extra={"action": "results"})


class FolderResults:
    """Results in a storage folder, a file per run.

    Args:
        path: of the run's.
        journal: of the run.
    """

    def __init__(self, path: Path, journal: Path):
        self._path = path
        self._journal = journal

    def publish(self, result: Result) -> None:
        """Append a result.

        Raises:
            KeyError: there is no such run.
            OSError: it cannot be written.
        """
        if not self._journal.exists():
            raise KeyError(self._journal.stem)
        line = result.dump().encode() + b"\n"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with (
            filelock.FileLock(f"{self._path}.lock", timeout=LOCKED),
            open(self._path, "ab") as file,
        ):
            file.write(line)

    def follow(self, stopped: threading.Event) -> Iterator[Result]:
        """Give results as they come, until stopped."""
        offset = 0
        while not stopped.wait(LOOK):
            with suppress(OSError), open(self._path, "rb") as file:  # at the next look, then
                file.seek(offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    offset += len(line)
                    yield from Result.load(line)


class Place(Protocol):
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

    def __init__(self, run: str, places: list[Place]):
        self.run = run
        self._found: dict[tuple[str, str], tuple[Result, Place]] = {}
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

    def _follow(self, place: Place) -> None:
        for result in place.follow(self._stopped):
            with self._news:
                before, whence = self._found.get((result.of, result.name), (result, place))
                # in one place the later one counts, whatever its publisher's clock says
                if whence is place or before.time <= result.time:
                    self._found[result.of, result.name] = result, place
                self._news.notify_all()


def plain_data(value: Any) -> Any:
    """Give numpy's values as JSON can hold them.

    Raises:
        TypeError: it is neither numpy's nor plain.
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(
        f"{value!r} cannot be published: give a number, a string, True, False, None, or lists and "
        "mappings of such"
    )
