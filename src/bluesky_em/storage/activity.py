"""The activity of a thread of the writer, for its watchdog."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from types import FrameType

_PACKAGE = f"{os.sep}bluesky_em{os.sep}"


class Activity:
    """What a thread is doing; the thread reports its progress.

    Args:
        name: what it does, e.g. `storing frames of PYRO:...`.
    """

    def __init__(self, name: str):
        self.name = name
        self._since: float | None = None
        self._thread: int | None = None

    def progress(self) -> None:
        """Report that something was done, and that the next thing begins."""
        self._thread = threading.get_ident()
        self._since = time.monotonic()

    def rest(self) -> None:
        """Report that there is nothing to do, or that the thread waits on purpose."""
        self._since = None

    @property
    def silence(self) -> float:
        """Seconds since the last progress; 0 at rest."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    @property
    def call(self) -> str:
        """The innermost function of this package that the thread is in."""
        frame = _frames().get(self._thread or 0)
        for each in reversed(traceback.extract_stack(frame)):
            if _PACKAGE in each.filename:
                return f"{Path(each.filename).name}: {each.name}"
        return "an unknown call"


def _frames() -> dict[int, FrameType]:
    """Return the current frame of each thread.

    A garbage collection during this call can stop the whole process: Python 3.11.7 waits then for
    a lock that it holds itself.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        return sys._current_frames()  # noqa: SLF001 (documented)
    finally:
        if collects:
            gc.enable()
