"""Reading of what Tiled was given, before it is called catalogued."""

from __future__ import annotations

import zlib
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from bluesky_em.files.hdf5 import FramesReader
from bluesky_em.frame import Frame

WHOLE_BYTES = 1 << 20  # bytes of a frame, or a block of them, that is read back as a whole
PART_BYTES = 1 << 14  # bytes that are read back of a larger one
REFUSED = {401, 403, 429, 502, 504}  # HTTP statuses that do not depend on what is read

Region = tuple[slice, ...]


class ReadBackError(RuntimeError):
    """Tiled does not give what is in the file."""


class ReadBack:
    """Reads the first frame of each array back, once.

    Args:
        root: the storage folder.
    """

    def __init__(self, root: Path):
        self._root = root
        self._unread: dict[str, Frame] = {}
        self._read: set[str] = set()

    def add(self, key: str, frame: Frame) -> None:
        """Add a stored frame of the array `key`."""
        if key not in self._read:
            self._unread.setdefault(key, frame)

    def check(self, key: str, array: Any) -> None:
        """Read the first frame of an array, unless that was done; see `check`."""
        frame = self._unread.pop(key, None)
        if frame is not None:
            check(array, frame, self._root)
            self._read.add(key)


def check(array: Any, frame: Frame, root: Path) -> None:
    """Read one frame back through Tiled, with one request.

    A small frame must have its checksum, or be equal to the file. Of a large one, and of an array
    that updates change, a small part must be equal to that part of the file.

    Args:
        array: the array's node in Tiled.
        frame: a frame that is stored and registered in Tiled.
        root: the storage folder.

    Raises:
        ReadBackError: Tiled cannot read the file, or gives something else.
        httpx.HTTPError: Tiled is away, or refuses everything.
    """
    path = root / frame.path
    region, shape = _whole(frame)
    is_small = frame.update is None and prod(shape) == prod((frame.count, *frame.shape))
    is_small &= frame.nbytes <= WHOLE_BYTES
    if not is_small:
        region = _part(region, shape, np.dtype(frame.dtype).itemsize)
    before = b"" if is_small else _in_file(path, region)
    found = _read(array, region, frame, path)
    if is_small and zlib.crc32(found) == frame.checksum:
        return
    after = _in_file(path, region)  # a cut block has no checksum of its own
    # While updates change an array, Tiled may give a value that came between the two looks at its
    # file; then it can only be said that Tiled reads the file.
    is_changing = frame.update is not None and before != after and len(found) == len(after)
    if found not in (before, after) and not is_changing:
        raise _error(frame, path, "it gives other values than the file has")


def _whole(frame: Frame) -> tuple[Region, tuple[int, ...]]:
    """Return where a frame's values are in its array, and the shape of that region.

    Of a block that is no rectangle of a map, it is the part in its first lines.
    """
    if frame.points:
        line, column = divmod(frame.row, frame.points)
        columns = min(frame.count, frame.points - column)
        lines = max(1, frame.count // frame.points) if column == 0 else 1
        start, shape = (line, column, *(0 for _ in frame.shape)), (lines, columns, *frame.shape)
    elif frame.update is None:
        start, shape = (frame.row, *(0 for _ in frame.shape)), (frame.count, *frame.shape)
    else:
        start = frame.index or (0,) * len(frame.update["shape"])
        shape = (1,) * (len(start) - len(frame.shape)) + frame.shape
    return tuple(slice(a, a + n) for a, n in zip(start, shape, strict=True)), shape


def _part(region: Region, shape: tuple[int, ...], itemsize: int) -> Region:
    """Return the first `PART_BYTES` of a region, or less: whole lines of the last axes."""
    most, part = max(1, PART_BYTES // itemsize), list(region)
    for axis in reversed(range(len(shape))):
        size = min(shape[axis], most)
        part[axis] = slice(region[axis].start, region[axis].start + size)
        most = max(1, most // max(1, size))
    return tuple(part)


def _in_file(path: Path, region: Region) -> bytes:
    with FramesReader(path) as reader:
        return reader.region(region).tobytes()


def _read(array: Any, region: Region, frame: Frame, path: Path) -> bytes:
    """Ask for the bytes as any client does, but once: the feed itself tries again later."""
    response = array.context.http_client.get(
        array.item["links"]["full"],
        headers={"Accept": "application/octet-stream"},
        params={"slice": ",".join(f"{axis.start}:{axis.stop}" for axis in region)},
    )
    if response.is_success or response.status_code in REFUSED:
        return response.raise_for_status().read()
    raise _error(frame, path, f"HTTP {response.status_code}, {response.text[:200]}")


def _error(frame: Frame, path: Path, why: str) -> ReadBackError:
    return ReadBackError(
        f"Tiled cannot read back {frame.reference} ({why}); the data are safe in {path}. Its "
        "server must be able to read that folder, and serve it under this name"
    )
