"""Detector run: where one detector's frames in one run belong, and how far it has got."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from bluesky_em.documents import Layout
from bluesky_em.errors import FrameMismatch


@dataclass
class DetectorRun:
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
    """what the descriptor promised of one exposure in a step scan"""
    described_flown: Layout | None = None
    """the same in a fly scan"""
    thumbnail: bool | None = None
    """whether a step scan's descriptor promised thumbnails; None while there is none"""
    update: dict[str, Any] | None = None
    """how the frames become one array, an `UpdateDeclaration.dump()`; empty: each has a row of its
    own; None while there are none"""

    @property
    def base(self) -> str:
        """Its references are `<base>/<number>`."""
        return f"{self.run}/{self.detector}"

    @property
    def uri(self) -> str:
        """Of the file."""
        return (PurePath(self.root) / self.path).as_uri()

    def check_update(self, update: dict[str, Any]) -> None:
        """Refuse frames that cannot go into one array with those before.

        Raises:
            ValueError: they became, or will become, something else.
        """
        if self.update not in (None, update):
            raise ValueError(
                f"{self.detector} has taken frames in this run with {_words(self.update)}, and "
                f"cannot take any with {_words(update)}: all its frames of a run become one array. "
                "Give each mode a run of its own"
            )

    def check_thumbnail(self, wanted: bool) -> None:
        """Refuse to begin with thumbnails, or to end with them, once the run is described.

        Raises:
            FrameMismatch: its descriptor promised otherwise.
        """
        if self.thumbnail not in (None, wanted):
            raise FrameMismatch(
                f"{self.detector}-thumbnail is {wanted} now, but this run's descriptor promised "
                f"{'thumbnails' if self.thumbnail else 'no thumbnails'}. Set it between runs, not "
                "within one"
            )


def _words(update: dict[str, Any] | None) -> str:
    return ", ".join(f"{name} {value}" for name, value in (update or {"mode": "add"}).items())
