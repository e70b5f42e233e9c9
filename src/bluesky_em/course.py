"""Course: where one detector's frames in one run belong, and how far it has got."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from .documents import Layout


@dataclass
class Course:
    """One detector's frames in one run (or, outside a single run, one frame or one flight)."""

    uid: str
    """of the `resource` document"""
    run: str
    """uid of the run; outside a single run `uid`"""
    detector: str
    """the device's name"""
    root: str
    path: str
    """of the file, relative to `root`"""
    next_number: int
    """of the next frame"""
    flown: int = 0
    """frames that stream datums have referred to: the next one's index"""
    emitted: bool = False
    """whether the `resource` document has been given"""
    described: Layout | None = None
    """what the descriptor promised of one exposure"""
    update: dict[str, Any] | None = None
    """how the frames of its flights become one array, a `Declaration.dump()`, or empty if each has
    a row of its own; None while it has not flown"""

    @property
    def base(self) -> str:
        """Its references are `<base>/<number>`."""
        return f"{self.run}/{self.detector}"

    @property
    def uri(self) -> str:
        """Of the file."""
        return (PurePath(self.root) / self.path).as_uri()
