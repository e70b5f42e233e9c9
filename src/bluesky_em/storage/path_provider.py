"""How a detector learns which run it is in, and where its frames will be."""

from __future__ import annotations

import shutil
import uuid

from ophyd_async.core import PathInfo
from rich.filesize import decimal

from bluesky_em.errors import NotEnoughSpace
from bluesky_em.files.layout import Layout, plain


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

    def check_room(self, size: int) -> None:
        """Find out whether so many bytes of frames can be stored.

        Raises:
            NotEnoughSpace: that disk has not so much free, or cannot be written.
        """
        root = self._layout.root
        try:
            self._layout.try_writing()
            free = shutil.disk_usage(root).free
        except OSError as exc:
            raise NotEnoughSpace(
                f"{root} cannot be written ({exc.strerror}): the run is not begun. Bring that "
                "disk back, or give Storage another folder"
            ) from exc
        if size > free:
            raise NotEnoughSpace(
                f"the run would take {decimal(size)}, and the disk of {root} has {decimal(free)} "
                "free: the run is not begun. Free some space, or take fewer or smaller frames"
            )

    def __call__(self, datakey_name: str | None = None) -> PathInfo:
        """Say where the frames of a detector in the open run will be."""
        if self.run is None:
            folder, name = self._layout.data, plain(f"{datakey_name or 'frames'}-{uuid.uuid4()}")
        else:
            path = self._layout.frames_of(self.run, self._open[self.run], datakey_name or "frames")
            folder, name = path.parent, path.stem
        return PathInfo(directory_path=folder, filename=name, create_dir_depth=-4)
