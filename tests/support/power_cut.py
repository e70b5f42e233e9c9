"""A power cut, and the files in a folder that it leaves.

A model of the disk: what was written since a file's last fsync has reached it or not, page by page.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

PAGE = 4096  # bytes; the operating system writes pages in any order
SECTOR = 512  # bytes; a disk may write a part of a page


class PowerCut(Exception):
    """The power is gone: nothing that this process does from now on reaches the disk."""


class Disk:
    """The files below a folder, as they are, and as they are on the disk.

    Inside `watch`, `os.fsync` brings a file, or the names in a folder, to the disk. Renamed and new
    files may have their old or their new name on the disk until their folder has been synced.

    Args:
        folder: on this computer's own disk.
        rng: decides when the power is cut and what has reached the disk.
    """

    def __init__(self, folder: Path, rng: random.Random):
        self.folder = folder
        self._rng = rng
        self._synced: dict[int, bytes] = {}
        self._names: dict[Path, int] = {}
        self._left = -1

    @contextmanager
    def watch(self, cut_at: int) -> Iterator[None]:
        """Raise PowerCut instead of the `cut_at`-th fsync, counted from 0, and from then on."""
        self._left = cut_at
        with mock.patch("os.fsync", self._fsync):
            yield

    def sync_all(self) -> None:
        """Bring everything to the disk."""
        self._names = _names(self.folder)
        self._synced = {inode: path.read_bytes() for path, inode in self._names.items()}

    def left(self, target: Path) -> None:
        """Write to `target` what is on the disk after the power cut."""
        now = _names(self.folder)
        for path in sorted({*now, *self._names}):
            inodes = [i for i in (now.get(path), self._names.get(path)) if i is not None]
            if len(inodes) == 2 or path in now and self._rng.random() < 0.5:
                inode = self._rng.choice(inodes)
            elif path in self._names and path not in now and self._rng.random() < 0.5:
                inode = inodes[0]
            else:
                continue
            written = path.read_bytes() if now.get(path) == inode else self._synced.get(inode, b"")
            there = target / path.relative_to(self.folder)
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_bytes(mixed(self._rng, self._synced.get(inode, b""), written))

    def _fsync(self, descriptor: int) -> None:
        if self._left == 0:
            raise PowerCut
        self._left -= 1
        inode = os.fstat(descriptor).st_ino
        for path, each in _names(self.folder).items():
            if each == inode:
                self._synced[inode] = path.read_bytes()
            if path.parent.stat().st_ino == inode or each == inode:  # of a new file: its name, too
                self._names[path] = each


def mixed(rng: random.Random, synced: bytes, written: bytes) -> bytes:
    """Return what is on the disk of a file that has been written since it was synced.

    Any pages of the second may be there, whole or torn; the size is one of both, or between.
    """
    sizes = [len(synced), len(written)]
    size = rng.choice([*sizes, rng.randint(min(sizes), max(sizes))])
    content = bytearray(synced.ljust(size, b"\0")[:size])
    share = rng.choice([0.1, 0.5, 0.9])
    for start in range(0, size, PAGE):
        if rng.random() < share:
            is_torn = rng.random() < 0.2
            end = start + (SECTOR * rng.randint(1, 7) if is_torn else PAGE)
            end = min(end, size, len(written))
            content[start:end] = written[start:end]
    return bytes(content)


def _names(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_ino for path in folder.rglob("*") if path.is_file()}
