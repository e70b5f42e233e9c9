"""Results in a storage folder: what analyses publish of a run, a file per run."""

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
"""The stream of a run that results are events of, where they are published through Tiled."""
LOOK = 0.02  # seconds between two looks into the folder
LOCKED = 10.0  # seconds that others may take to publish theirs


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
