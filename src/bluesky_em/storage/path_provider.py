"""The open run and the paths of its frames, for detectors (an ophyd-async PathProvider)."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

from ophyd_async.core import PathInfo
from rich.filesize import decimal

from bluesky_em.errors import NotEnoughSpace
from bluesky_em.files import readable_folders
from bluesky_em.files.layout import Layout, plain


class RunPathProvider:
    """An ophyd-async `PathProvider` for the runs that `Storage` receives.

    `run` is the uid of the only open run. It is None if no run or several runs are open: then a
    trigger cannot know which run its frame will belong to.
    """

    def __init__(self, layout: Layout):
        self._layout = layout
        self._open: dict[str, float] = {}
        self.held = ""
        """why detectors must wait before they expose; empty if they need not"""

    @property
    def run(self) -> str | None:
        """The uid of the only open run; None if no run or several are open."""
        return next(iter(self._open)) if len(self._open) == 1 else None

    @property
    def open_runs(self) -> set[str]:
        """The uids of all open runs."""
        return set(self._open)

    def opened(self, run: str, started: float) -> None:
        """Add a run; `started` is the time of its start document, s since the epoch."""
        self._open[run] = started

    def closed(self, run: str) -> None:
        """Remove a run that has ended; an unknown run is ignored."""
        self._open.pop(run, None)

    def check_room(self, size: int) -> None:
        """Check that `size` bytes of frames can be stored.

        Raises:
            NotEnoughSpace: the storage disk has less free space, or cannot be written.
        """
        root = self._layout.root
        try:
            self._layout.try_writing()
            free = shutil.disk_usage(root).free
        except OSError as exc:
            raise NotEnoughSpace(
                f"{root} cannot be written ({exc.strerror}): the run is not begun. "
                "Reconnect that disk, or give Storage another folder"
            ) from exc
        if size > free:
            raise NotEnoughSpace(
                f"the run would take {decimal(size)}, but the disk of {root} has {decimal(free)} "
                "free: the run is not begun. Free some space, or take fewer or smaller frames"
            )

    def why_unreadable(self, path: Path) -> str:
        """Return why Tiled may not read a file or folder, and what to do; empty if it may."""
        return readable_folders.why_unreadable(self._layout, path)

    def __call__(self, datakey_name: str | None = None) -> PathInfo:
        """Return the path of a detector's frames in the open run."""
        if self.run is None:
            folder, name = self._layout.data, plain(f"{datakey_name or 'frames'}-{uuid.uuid4()}")
        else:
            path = self._layout.frames_of(self.run, self._open[self.run], datakey_name or "frames")
            folder, name = path.parent, path.stem
        return PathInfo(directory_path=folder, filename=name, create_dir_depth=-4)
