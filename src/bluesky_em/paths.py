"""How a detector learns which run it is in, and where its frames will be."""

from __future__ import annotations

import uuid

from ophyd_async.core import PathInfo

from .layout import Layout, plain


class RunPathProvider:
    """An ophyd-async `PathProvider` that follows the runs which `Storage` sees.

    `run` is the uid of the one open run, or None when there is none or more than one: then
    nobody can know at the trigger which run the frame will belong to.
    """

    def __init__(self, layout: Layout):
        self._layout = layout
        self._open: dict[str, float] = {}
        self.held = ""
        """why detectors must wait before they expose; empty when they need not"""

    @property
    def run(self) -> str | None:
        """The uid of the single open run."""
        return next(iter(self._open)) if len(self._open) == 1 else None

    @property
    def open_runs(self) -> set[str]:
        """The uids of all runs that are open."""
        return set(self._open)

    def opened(self, run: str, started: float) -> None:
        """Learn of a run from its start document."""
        self._open[run] = started

    def closed(self, run: str) -> None:
        """Learn of a run's end from its stop document."""
        self._open.pop(run, None)

    def __call__(self, datakey_name: str | None = None) -> PathInfo:
        """Say where the frames of a detector in the open run will be."""
        if self.run is None:
            folder, name = self._layout.data, plain(f"{datakey_name or 'frames'}-{uuid.uuid4()}")
        else:
            path = self._layout.frames_of(self.run, self._open[self.run], datakey_name or "frames")
            folder, name = path.parent, path.stem
        return PathInfo(directory_path=folder, filename=name, create_dir_depth=-4)
