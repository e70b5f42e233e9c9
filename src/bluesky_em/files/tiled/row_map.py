"""Which of our frames is in which row of an array in Tiled."""

from __future__ import annotations

import math
import zlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from operator import itemgetter
from typing import Any

from bluesky_em.axes import Axis
from bluesky_em.frame import Frame
from bluesky_em.reference import Reference

KEY = "bluesky_em"
"""Where an array node's metadata hold its row map, and a run's its manifest."""


class RowMap:
    """References to rows, for those who have only the Tiled address.

    Tiled keeps no datum ids. Numbers and rows usually rise together, under one calibration: so
    the map is a list of *segments*, a new one only where a number was skipped (a point the
    RunEngine interrupted and repeated), where the axes changed, or where the frames of several
    open runs carry uids of their own. All but the last tell how many `rows` they have.
    """

    def __init__(self) -> None:
        self.segments: list[dict[str, Any]] = []
        self.failed: dict[str, str] = {}
        self.changed = False
        self._next: tuple[str, int, int] | None = None

    def add(self, frame: Frame) -> None:
        """Add the next row, or the rows of a block."""
        uid = Reference.parse(frame.reference).run
        axes = [asdict(axis) for axis in frame.axes]
        scan = [asdict(axis) for axis in frame.scan]
        last = self.segments[-1] if self.segments else {}
        follows = self._next == (uid, frame.number, frame.row)
        if not follows or (last["axes"], last.get("scan", [])) != (axes, scan):
            if self._next is not None:
                self.segments[-1]["rows"] = self._next[2] - self.segments[-1]["row"]
            segment = {"row": frame.row, "number": frame.number, "axes": axes, "run": uid}
            segment |= {"scan": scan} if scan else {}
            self.segments.append(segment)
            self.changed = True
        self._next = (uid, frame.number + frame.count, frame.row + frame.count)

    def fail(self, frame: Frame, reason: str) -> None:
        """Note that a row (those of a block) holds no data, and why."""
        self.failed.update(dict.fromkeys(map(str, frame.rows), reason))
        self.changed = True

    @property
    def size(self) -> dict[str, int]:
        """How much it tells: never less than before."""
        return {"segments": len(self.segments), "failed": len(self.failed)}

    def dump(self) -> dict[str, Any]:
        """Give the metadata for Tiled, to be had under `KEY`."""
        self.changed = False
        return {"segments": self.segments, "failed": self.failed}


def find(segments: Sequence[Mapping[str, Any]], reference: Reference) -> int | None:
    """Find a reference's row, from the segments of one array; None if it is not among them.

    It may be beyond the rows that are there: the last segment is open.

    >>> segments = [
    ...     {"run": "a", "number": 0, "row": 0, "rows": 3}, {"run": "a", "number": 5, "row": 3}
    ... ]
    >>> [find(segments, Reference(run="a", detector="eels", number=n)) for n in (2, 3, 6)]
    [2, None, 4]
    """
    for segment in segments:
        ahead = reference.number - segment["number"]
        if segment["run"] == reference.run and 0 <= ahead < segment.get("rows", math.inf):
            return segment["row"] + ahead
    return None


def reference_at(segments: Sequence[Mapping[str, Any]], detector: str, row: int) -> str:
    """Give the reference of the frame in a row: the reverse of `find`.

    >>> segments = [{"run": "a", "number": 0, "row": 0}, {"run": "a", "number": 5, "row": 3}]
    >>> reference_at(segments, "eels", 4)
    'a/eels/6'
    """
    segment = _segment(segments, row)
    return f"{segment['run']}/{detector}/{segment['number'] + row - segment['row']}"


def axes_at(segments: Sequence[Mapping[str, Any]], row: int) -> tuple[Axis, ...]:
    """Give the axes of the frame in a row."""
    return tuple(Axis.load(axis) for axis in _segment(segments, row)["axes"])


def _segment(segments: Sequence[Mapping[str, Any]], row: int) -> Mapping[str, Any]:
    return segments[: bisect_right(segments, row, key=itemgetter("row"))][-1]


def read_update(array: Any, row: int, axes: tuple[Axis, ...], about: Mapping[str, Any]) -> Any:
    """Read the values of one update from Tiled.

    Args:
        array: its node.
        row: the update's number.
        axes: of the frame.
        about: what `UpdateMap.dump` has put under `update`.

    Raises:
        LookupError: a later one has changed them, or taken their place.
    """
    kept = about["values"].get(str(row))
    if kept is None:
        raise LookupError(f"update {row} has no values of its own (any more)")
    shape = [axis.size for axis in axes]
    start = kept["index"] or [0] * len(array.shape)
    size = [1] * (len(start) - len(shape)) + shape
    values = array[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))]
    if zlib.crc32(values.tobytes()) != kept["checksum"]:
        raise LookupError(f"a later update has changed the values of update {row}")
    return values.reshape(shape)
