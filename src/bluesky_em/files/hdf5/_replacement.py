"""Replacement of a frames file that cannot be continued, e.g. after a power cut of its PC."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from bluesky_em.axes import Axis
from bluesky_em.documents import DATASET
from bluesky_em.files.atomic import whole_file
from bluesky_em.files.damaged import free_name
from bluesky_em.files.map_rows import MapRows
from bluesky_em.frame import Frame

from ._frames_file import ABSENT, COLUMNS, FRAMES, ForeignFile, FramesFile
from ._repair import repair


def is_damage(exc: BaseException) -> bool:
    """Check whether an error comes from the content of an HDF5 file, not from its disk.

    HDF5 reports an error of the operating system with its `errno`.
    """
    if isinstance(exc, OSError):
        return exc.errno is None
    is_format = isinstance(exc, (ValueError, KeyError, RuntimeError, AssertionError))
    return is_format and not isinstance(exc, ForeignFile)


def set_aside(path: Path) -> Path:
    """Rename a damaged file, so that a new one can take its place; return its new path."""
    kept = free_name(path)
    os.replace(path, kept)
    return kept


def replace_damaged(path: Path, first: Frame, stored: Sequence[Frame]) -> tuple[Path, list[Frame]]:
    """Replace a frames file by a new one with those of its frames that can be read.

    A frame is taken over if it has its checksum. A copy of the damaged file is kept beside the new
    one. A crash in between changes nothing that counts: the new file takes the place of the damaged
    one in one step.

    Args:
        path: the damaged file.
        first: a frame of the file, which decides shape, dtype and axes.
        stored: the frames that are known to have been stored in it, with their checksums.

    Returns:
        The path of the copy, and those of `stored` that were lost.

    Raises:
        OSError: the disk is full, or another process has the file open on Windows.
    """
    kept = free_name(path)
    with whole_file(kept) as part:
        shutil.copyfile(path, part)
    try:
        return kept, _write_new(path, first, stored)
    except BaseException:
        kept.unlink()  # each attempt makes its own, and the disk may be full
        raise


def _write_new(path: Path, first: Frame, stored: Sequence[Frame]) -> list[Frame]:
    """Write a new file in the place of a damaged one; return those of `stored` it does not have."""
    with suppress(OSError, ValueError):
        repair(path, always=True)
    with whole_file(path) as part:
        part.unlink(missing_ok=True)
        with closing(FramesFile(part, first)) as new:
            for frame, pixels in _readable(path, first, stored):
                new.write(frame, pixels)
            new.flush()
            return [frame for frame in stored if not _holds(new, frame)]


def _readable(
    path: Path, first: Frame, stored: Sequence[Frame]
) -> Iterator[tuple[Frame, np.ndarray]]:
    """Yield the frames that match their checksums in the file, or else in the ledger."""
    with suppress(*_HDF5_ERRORS), h5py.File(path, "r", libver="latest") as old:
        dataset: Any = MapRows(old[DATASET]) if first.points else old[DATASET]
        for frame in chain(_frames_of(old, first), stored):
            pixels = _read(dataset, frame)
            if pixels is not None:
                yield frame, pixels


def _frames_of(old: h5py.File, first: Frame) -> Iterator[Frame]:
    """Yield the frame of each row, by the file's own columns, as far as they can be read."""
    try:
        group: Any = old[FRAMES]
        columns = {name: group[name][()] for name in COLUMNS if name in group}
    except _HDF5_ERRORS:
        return
    for row, number in enumerate(columns.get("number", ())):
        if number == ABSENT:
            continue
        with suppress(*_HDF5_ERRORS):  # another column is lost, or shorter
            yield replace(
                first, number=int(number), row=row, count=1,
                axes=_axes(columns, row, first), ended=float(columns["time"][row]),
                checksum=int(columns["checksum"][row]),
            )  # fmt: skip


def _axes(columns: Mapping[str, np.ndarray], row: int, first: Frame) -> tuple[Axis, ...]:
    if not first.axes:
        return ()
    own = zip(first.axes, columns["axis_offset"][row], columns["axis_scale"][row], strict=True)
    return tuple(replace(a, offset=float(offset), scale=float(scale)) for a, offset, scale in own)


_HDF5_ERRORS = (OSError, KeyError, RuntimeError, ValueError, TypeError, IndexError)
"""What h5py raises while it reads a damaged file."""


def _read(dataset: Any, frame: Frame) -> np.ndarray | None:
    """Return the pixels of a frame; None if they cannot be read, or are others."""
    try:
        pixels = np.ascontiguousarray(dataset[frame.rows.start : frame.rows.stop])
    except _HDF5_ERRORS:
        return None
    return pixels if zlib.crc32(pixels.data) == frame.checksum else None


def _holds(file: FramesFile, frame: Frame) -> bool:
    try:
        return file.holds(frame)
    except OSError:  # a row was never written
        return False
