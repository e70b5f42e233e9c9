"""Check of what a frames file says about its frames against the ledger."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from bluesky_em.axes import Axis
from bluesky_em.files.hdf5 import FramesReader
from bluesky_em.frame import Frame


def untruths_of_file(
    reader: FramesReader, first: Frame, axes: Iterable[tuple[Axis, ...]]
) -> Iterator[str]:
    """Yield in words what a file says about itself that is not true.

    Args:
        reader: of the file.
        first: one of its frames.
        axes: of its frames, also of failed ones: the file has those of the one that came first.
    """
    if reader.owner != first.owner:
        yield f"{first.path} says that it has frames of {reader.owner}, not of {first.owner}"
    found = reader.axes()
    if not any(_is_same_axes(found, each) for each in axes):
        yield f"the axes in {first.path} are those of none of its frames: {', '.join(found)}"


def untruths(frame: Frame, pixels: np.ndarray, columns: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Yield in words what the columns of a file say about a frame or block that is not true.

    Args:
        frame: from the ledger.
        pixels: in its rows.
        columns: of its file.
    """
    expected = {
        "number": np.array(frame.numbers),
        "time": np.full(frame.count, frame.ended),
        "checksum": np.array([zlib.crc32(each.tobytes()) for each in pixels]),
    }
    if frame.axes:
        expected["axis_offset"] = np.array([[axis.offset for axis in frame.axes]] * frame.count)
        expected["axis_scale"] = np.array([[axis.scale for axis in frame.axes]] * frame.count)
    for name, values in expected.items():
        if not _is_equal(columns[name][frame.rows.start : frame.rows.stop], values):
            yield f"{frame.reference}: {name} in row {frame.row} of {frame.path} is not the frame's"


def _is_same_axes(found: Mapping[str, tuple[np.ndarray, str]], axes: tuple[Axis, ...]) -> bool:
    return found.keys() == {axis.name for axis in axes} and all(
        _is_equal(found[axis.name][0], axis.values) and found[axis.name][1] == axis.units
        for axis in axes
    )


def _is_equal(found: np.ndarray, expected: np.ndarray) -> bool:
    return np.array_equal(found, expected, equal_nan=True)
