"""The open files of readers that do not read at the moment: a limited number."""

from __future__ import annotations

import threading
from typing import BinaryIO
from weakref import WeakKeyDictionary


class IdleFiles:
    """Keeps one file open per reader, until too many are open: then the oldest one is closed.

    A reader takes its file out while it reads, so that no other thread can close it meanwhile.
    The file of a reader that was forgotten without `close` is closed with it.

    Args:
        limit: of the files that are kept open.
    """

    def __init__(self, limit: int):
        self._limit = limit
        self._files: WeakKeyDictionary[object, BinaryIO] = WeakKeyDictionary()  # oldest first
        self._lock = threading.Lock()

    def take(self, reader: object) -> BinaryIO | None:
        """Return the open file of a reader and keep it no longer; None if it is not open."""
        with self._lock:
            return self._files.pop(reader, None)

    def keep(self, reader: object, file: BinaryIO) -> None:
        """Keep the file of a reader open as long as it is not the oldest of too many."""
        with self._lock:
            self._files[reader] = file
            surplus = max(0, len(self._files) - self._limit)
            closed = [self._files.pop(oldest, None) for oldest in [*self._files][:surplus]]
        for each in closed:
            if each is not None:
                each.close()
