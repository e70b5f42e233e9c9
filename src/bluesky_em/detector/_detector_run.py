"""DetectorRun: one detector's frames in one run; DetectorRuns: those of all open runs."""

from __future__ import annotations

import itertools
import uuid
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from bluesky_em.documents import Layout
from bluesky_em.errors import FrameMismatch
from bluesky_em.reference import base_of

from ._run_paths import RunPaths


@dataclass
class DetectorRun:
    """One detector's frames in one run; outside a single run, one frame or one fly scan."""

    run: str
    """uid of the run; outside a single run another unique id"""
    detector: str
    """the device's name"""
    root: str
    path: str
    """of the file, relative to `root`"""
    next_number: int
    """of the next frame"""
    flown: int = 0
    """events that stream datums have referred to; the next event's index"""
    line: list[int] | None = None
    """axes that an event of its fly scans has in front of those of an exposure; None before one"""
    emitted: bool = False
    """whether the `resource` document has been emitted"""
    described: Layout | None = None
    """shape and dtype in a step scan's descriptor"""
    described_flown: Layout | None = None
    """the same in a fly scan's descriptor"""
    thumbnail: bool | None = None
    """whether a step scan's descriptor has thumbnails; None while there is no descriptor"""
    update: dict[str, Any] | None = None
    """how the frames become one array, an `UpdateDeclaration.dump()`; empty: each has a row of its
    own; None while there are no frames"""

    @property
    def base(self) -> str:
        """Uid of the `resource` document; references are `<base>/<number>`."""
        return base_of(self.run, self.detector)

    @property
    def uri(self) -> str:
        """Of the file."""
        return (PurePath(self.root) / self.path).as_uri()

    def check_update(self, update: dict[str, Any]) -> None:
        """Refuse frames that cannot go into one array with the earlier ones.

        Raises:
            ValueError: the earlier ones become another kind of array.
        """
        if self.update not in (None, update):
            raise ValueError(
                f"{self.detector} has taken frames in this run with {_words(self.update)}, and "
                f"cannot take any with {_words(update)}: all its frames of a run become one array. "
                "Give each mode a run of its own"
            )

    def check_line(self, line: list[int]) -> None:
        """Refuse a map whose lines are not as long as those of the maps before.

        The RunEngine asks a detector once in a run to describe what it collects.

        Raises:
            ValueError: they are not.
        """
        if self.line not in (None, line):
            raise ValueError(
                f"{self.detector} has taken a fly scan {_of_lines(self.line)} in this run, and "
                f"cannot take one {_of_lines(line)}: a run describes the shape of its events once. "
                "Give maps of another width a run of their own"
            )

    def check_thumbnail(self, wanted: bool) -> None:
        """Refuse to add thumbnails, or to omit them, once the run is described.

        Raises:
            FrameMismatch: the descriptor promised otherwise.
        """
        if self.thumbnail not in (None, wanted):
            raise FrameMismatch(
                f"{self.detector}-thumbnail is {wanted} now, but this run's descriptor promised "
                f"{'thumbnails' if self.thumbnail else 'no thumbnails'}. Set it between runs, not "
                "within one"
            )


class DetectorRuns:
    """The runs of one detector: one `DetectorRun` for each run that is open.

    Args:
        paths: knows the open runs.
    """

    def __init__(self, paths: RunPaths):
        self._paths = paths
        self._runs: dict[str, DetectorRun] = {}
        self._numbers = itertools.count()
        self._promise: dict[str, Any] = {}

    def reset(self) -> None:
        """Forget what was promised of frames outside a single run."""
        self._promise = {}

    def current(self, detector: str) -> DetectorRun:
        """Return the one of the single open run; without a single open run, a new one."""
        run = self._paths.run
        if run is None:
            return self._new(detector, None)
        if run not in self._runs:
            still_open = self._paths.open_runs
            self._runs = {uid: self._runs[uid] for uid in self._runs if uid in still_open}
            self._runs[run] = self._new(detector, run)
        return self._runs[run]

    def promise(self, detector: str, layout: Layout, thumbnail: bool) -> None:
        """Record what a descriptor promised of the frames of a step scan from now on."""
        if self._paths.run is None:
            self._promise = {"described": layout, "thumbnail": thumbnail}
        else:
            run = self.current(detector)
            run.described, run.thumbnail = layout, thumbnail

    def _new(self, detector: str, run: str | None) -> DetectorRun:
        place = self._paths(detector)
        return DetectorRun(
            run=run or str(uuid.uuid4()),
            detector=detector,
            root=place.directory_path.as_posix(),
            path=f"{place.filename}.h5",
            next_number=0 if run else next(self._numbers),
            **({} if run else self._promise),
        )


def _words(update: dict[str, Any] | None) -> str:
    return ", ".join(f"{name} {value}" for name, value in (update or {"mode": "add"}).items())


def _of_lines(line: list[int] | None) -> str:
    return f"with lines of {line[0]} points" if line else "without lines"
