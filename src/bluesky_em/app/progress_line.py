"""The progress of what the RunEngine waits for, as one line of text: for notebooks."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
from bluesky.utils import ProgressBarBase, ProgressBarManager
from tqdm import tqdm

STEP = 5  # percent; smaller steps show nothing, so that a notebook does not keep too many lines


def progress_bars() -> ProgressBarManager:
    """Return a `waiting_hook` of the RunEngine: bars in a terminal, one line anywhere else.

    Bluesky's own bars move the cursor up and down, which notebooks and files show as characters.
    """
    return ProgressBarManager() if sys.stdout.isatty() else ProgressBarManager(ProgressLine)


class ProgressLine(ProgressBarBase):
    """Shows the slowest of several statuses; nothing while none of them has a position.

    Args:
        statuses: those that can be watched are shown.
    """

    def __init__(self, statuses: Iterable[Any]):
        self._done: dict[int, tuple[float, str]] = {}
        self._lock = threading.Lock()
        self._line: tqdm | None = None
        for number, status in enumerate(statuses):
            if hasattr(status, "watch") and not status.done:
                status.watch(partial(self.update, number))

    def update(
        self, pos: int, *, name: str | None = None, current: Any = None, initial: Any = None,
        target: Any = None, **_: Any,
    ) -> None:  # fmt: skip
        """Take the position of a status; called by it."""
        if current is None or initial is None or target is None:
            return
        with self._lock:
            self._done[pos] = _part(current, initial, target), name or ""
            self._show(*min(self._done.values()))

    def clear(self) -> None:
        """End the line, complete."""
        with self._lock:
            if self._line is not None:
                self._show(1.0, self._line.desc.removesuffix(": "))
                self._line.close()

    def _show(self, part: float, name: str) -> None:
        if self._line is None:
            self._line = tqdm(
                total=100, desc=name, file=sys.stdout, mininterval=0, miniters=1,
                bar_format="{desc}: {percentage:3.0f}%|{bar:20}| {elapsed}",
            )  # fmt: skip
        self._line.set_description_str(name, refresh=False)
        if abs(more := round(100 * part) - self._line.n) >= STEP or part == 1.0:
            self._line.update(more)


def _part(current: Any, initial: Any, target: Any) -> float:
    """Return how much is done, 0 to 1."""
    way = float(np.linalg.norm(np.subtract(target, initial)))
    gone = float(np.linalg.norm(np.subtract(current, initial)))
    return min(1.0, gone / way) if way else 1.0
