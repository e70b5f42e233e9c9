"""Power cuts of a computer whose processes have been killed.

What was written since a file's last fsync has reached the disk or not, page by page; new, renamed
and removed names, too.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.support.power_cut import mixed

HOOK = Path(__file__).parent / "sync_copies"


class PowerCuts:
    """What the disk has of the files in a folder when the power fails.

    Processes that are started with `environment` copy each file when they sync it.

    What is cut together is always cut together.

    Args:
        folder: of all computers; no link leads to it.
        copies: a folder for the copies, on the same file system.
        rng: decides what has reached the disk.
    """

    def __init__(self, folder: Path, copies: Path, rng: random.Random):
        self._folder = folder
        self._copies = copies
        self._rng = rng
        self._last: dict[Path, int] = {}
        self._before: dict[Path, int] = {}
        copies.mkdir()

    @property
    def environment(self) -> dict[str, str]:
        """Variables of the processes that write."""
        paths = [str(HOOK), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {
            "PYTHONPATH": os.pathsep.join(paths),
            "BLUESKY_EM_SYNCED": f"{self._folder}:{self._copies}",
        }

    def cut(self, parts: Iterable[Path]) -> None:
        """Leave in these folders what a power cut leaves; the processes that write have ended."""
        for part in parts:
            names = self._copies / "names" / part.relative_to(self._folder)
            synced = {self._folder / path.relative_to(self._copies / "names"): path
                      for path in _files(names)}  # fmt: skip
            inodes = {path: int(name.read_text()) for path, name in synced.items()}
            for path in sorted({*inodes, *_files(part)}):
                self._leave(path, inodes.get(path), self._last.get(part, 0))
            shutil.rmtree(names, ignore_errors=True)
            there = {path: path.stat().st_ino for path in _files(part)}
            for inode in {*inodes.values(), *there.values()}:
                for kind in ("content", "file"):
                    (self._copies / f"{inode}.{kind}").unlink(missing_ok=True)
            self._before.update(there)
            self._last[part] = time.time_ns()

    def _leave(self, path: Path, synced: int | None, since: int) -> None:
        now = path.stat().st_ino if path.exists() else None
        inodes = [inode for inode in {now, synced} if inode is not None]
        if now is not None and synced is None and self._before.get(path) != now:
            inodes = [now] if self._rng.random() < 0.5 else []  # a new name
        elif now is None:
            inodes = inodes if self._rng.random() < 0.5 else []  # a removed name
        inode = self._rng.choice(inodes) if inodes else None
        if inode is None:
            path.unlink(missing_ok=True)
        elif inode != now or path.stat().st_mtime_ns > since:
            self._leave_content(path, inode, is_new=self._before.get(path) != inode)

    def _leave_content(self, path: Path, inode: int, *, is_new: bool) -> None:
        copy, file = self._copies / f"{inode}.content", self._copies / f"{inode}.file"
        if not copy.exists() and not is_new:
            return  # it has not been synced since the last power cut
        current = path if path.exists() and path.stat().st_ino == inode else file
        if not current.exists():
            return
        content = mixed(
            self._rng, copy.read_bytes() if copy.exists() else b"", current.read_bytes()
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        if current is file:
            path.unlink(missing_ok=True)
        path.write_bytes(content)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
