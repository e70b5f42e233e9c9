"""Map from references to rows of an array in Tiled."""

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
"""Key of our metadata: of an array node its row map, of a run its manifest."""


class RowMap:
    """Map from references to rows, for clients that have only the Tiled address.

    Tiled keeps no datum ids. Numbers and rows usually increase together and the axes stay the
    same, so the map is a list of *segments*. A new one begins where a number was skipped (the
    RunEngine interrupted a point and repeated it), where the axes changed, or where the run uid in
    the references changes (several runs are open). All segments but the last have a number of
    `rows`.
    """

    def __init__(self) -> None:
        self.segments: list[dict[str, Any]] = []
        self.failed: dict[str, str] = {}
        self.changed = False
        self._next: tuple[str, int, int] | None = None

    def add(self, frame: Frame) -> None:
        """Add the next row, or the rows of a block of frames."""
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
        """Record that a row (or the rows of a block) has no data, and why."""
        self.failed.update(dict.fromkeys(map(str, frame.rows), reason))
        self.changed = True

    @property
    def size(self) -> dict[str, int]:
        """Number of entries; never decreases."""
        return {"segments": len(self.segments), "failed": len(self.failed)}

    def dump(self) -> dict[str, Any]:
        """Return the metadata that Tiled keeps under `KEY`."""
        self.changed = False
        return {"segments": self.segments, "failed": self.failed}


def find(segments: Sequence[Mapping[str, Any]], reference: Reference) -> int | None:
    """Return a reference's row from the segments of one array, None if no segment has it.

    The row may be beyond the end of the array: the last segment has no end.

    >>> segments = [
    ...     {"run": "a", "number": 0, "row": 0, "rows": 3}, {"run": "a", "number": 5, "row": 3}
    ... ]
    >>> [find(segments, Reference(run="a", detector="eels", number=n)) for n in (2, 3, 6)]
    [2, None, 4]
    """
    for segment in segments:
        offset = reference.number - segment["number"]
        if segment["run"] == reference.run and 0 <= offset < segment.get("rows", math.inf):
            return segment["row"] + offset
    return None


def reference_at(segments: Sequence[Mapping[str, Any]], detector: str, row: int) -> str:
    """Return the reference of the frame in a row: the inverse of `find`.

    >>> segments = [{"run": "a", "number": 0, "row": 0}, {"run": "a", "number": 5, "row": 3}]
    >>> reference_at(segments, "eels", 4)
    'a/eels/6'
    """
    segment = _segment(segments, row)
    return f"{segment['run']}/{detector}/{segment['number'] + row - segment['row']}"


def axes_at(segments: Sequence[Mapping[str, Any]], row: int) -> tuple[Axis, ...]:
    """Return the axes of the frame in a row."""
    return tuple(Axis.load(axis) for axis in _segment(segments, row)["axes"])


def _segment(segments: Sequence[Mapping[str, Any]], row: int) -> Mapping[str, Any]:
    return segments[: bisect_right(segments, row, key=itemgetter("row"))][-1]


def read_update(array: Any, row: int, axes: tuple[Axis, ...], about: Mapping[str, Any]) -> Any:
    """Read the values of one update from Tiled.

    Args:
        array: the array's node.
        row: the update's number.
        axes: of the frame; its shape is that of the result.
        about: the entry `update` of `UpdateMap.dump`.

    Raises:
        LookupError: a later update has changed or replaced the values.
    """
    kept = about["values"].get(str(row))
    if kept is None:
        raise LookupError(f"update {row} has no values of its own, or a later one replaced them")
    shape = [axis.size for axis in axes]
    start = kept["index"] or [0] * len(array.shape)
    size = [1] * (len(start) - len(shape)) + shape
    values = array[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))]
    if zlib.crc32(values.tobytes()) != kept["checksum"]:
        raise LookupError(f"a later update has changed the values of update {row}")
    return values.reshape(shape)
