"""Results that analyses publish about a run: one file per run in a storage folder."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np

logger = logging.getLogger(__name__)

RESULTS = "results"
"""The stream whose events are results, where they are published through Tiled."""
POLL_INTERVAL = 0.02  # seconds between two reads of the file
LOCK_TIMEOUT = 10.0  # seconds to wait for other processes that publish


@dataclass(frozen=True, kw_only=True)
class Result:
    """One published value."""

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
        """Return it as a line of JSON.

        Raises:
            TypeError: its value is not plain data.
        """
        return json.dumps(asdict(self), default=plain_data)

    @classmethod
    def load(cls, line: str | bytes) -> Iterator[Result]:
        """Yield the result in a line of `dump`; log any other line, and yield nothing."""
        try:
            yield cls(**json.loads(line))
        except (ValueError, TypeError, RecursionError) as exc:
            logger.warning("%r is not a result: %s", line, exc, extra={"action": "results"})


class FolderResults:
    """Results in a storage folder, a file per run.

    Args:
        path: of the run's results.
        journal: of the run's journal.
    """

    def __init__(self, path: Path, journal: Path):
        self._path = path
        self._journal = journal

    def publish(self, result: Result) -> None:
        """Append a result.

        Raises:
            KeyError: the run does not exist here.
            OSError: it cannot be written.
        """
        if not self._journal.exists():
            raise KeyError(self._journal.stem)
        line = result.dump().encode() + b"\n"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with (
            filelock.FileLock(f"{self._path}.lock", timeout=LOCK_TIMEOUT),
            open(self._path, "ab") as file,
        ):
            file.write(line)

    def follow(self, stopped: threading.Event) -> Iterator[Result]:
        """Yield results as they are published, until stopped."""
        offset = 0
        while not stopped.wait(POLL_INTERVAL):
            with suppress(OSError), open(self._path, "rb") as file:  # the next read may succeed
                file.seek(offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    offset += len(line)
                    yield from Result.load(line)


def plain_data(value: Any) -> Any:
    """Convert a numpy value to plain data that JSON can hold.

    Raises:
        TypeError: it is not a numpy value.
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(
        f"{value!r} cannot be published: give a number, a string, True, False, None, or lists and "
        "mappings of such"
    )
