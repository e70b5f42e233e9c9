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
from bluesky_em.reference import Reference, base_of

KEY = "bluesky_em"
"""Key of our metadata: of an array node its row map, of a stream its `StreamKeys`, of a run its
manifest."""
FACTS_LIMIT = 256  # changes; from there on facts are not described at each flush: see `RowMap`
FACTS_GROWTH = 1.1  # factor by which the rows must have grown then


class RowMap:
    """Map from references to rows, for clients that have only the Tiled address.

    Tiled keeps no datum ids. Numbers and rows usually increase together and the axes stay the
    same, so the map is a list of *segments*. A new one begins where a number was skipped (the
    RunEngine interrupted a point and repeated it), where the axes changed, where the run uid in
    the references changes (several runs are open), or where another descriptor is valid. All
    segments but the last have a number of `rows`.

    Facts (`Frame.metadata`) may change with every row, so they are not in the segments, but in a
    list of changes, `[row, {fact: value}]`; None: the fact is absent from that row on. Since Tiled
    replaces the map as a whole, a long list is described only when the rows have grown by a tenth,
    and in the end; `facts_end` is then the first row whose facts are not in it yet.
    """

    def __init__(self) -> None:
        self.segments: list[dict[str, Any]] = []
        self.failed: dict[str, str] = {}
        self.facts: list[tuple[int, dict[str, Any]]] = []
        self._changed = False
        self._next: tuple[str, int, int] | None = None
        self._last_facts: dict[str, Any] = {}
        self._facts_described = 0
        self._facts_end: int | None = None

    @property
    def changed(self) -> bool:
        """Whether Tiled must have the map again before a client sees the rows."""
        due = FACTS_GROWTH * (self._facts_end or 0)
        return self._changed or (self.is_behind and self._rows >= due)

    @property
    def has_several_axes(self) -> bool:
        """Whether the axes differ from row to row."""
        return any(each["axes"] != self.segments[0]["axes"] for each in self.segments)

    @property
    def is_behind(self) -> bool:
        """Whether the map that was described lacks the facts of some rows."""
        end = self._facts_end
        is_short = end is not None and self._rows > end
        return is_short or len(self.facts) > self._facts_described

    @property
    def _rows(self) -> int:
        return self._next[2] if self._next is not None else 0

    def add(self, frame: Frame, descriptor: int = 0) -> None:
        """Add the next row, or the rows of a block of frames.

        Args:
            frame: the row's frame.
            descriptor: the number of its descriptor in the stream, from 0.
        """
        uid = Reference.parse(frame.reference).run
        axes = [asdict(axis) for axis in frame.axes]
        scan = [asdict(axis) for axis in frame.scan]
        last = self.segments[-1] if self.segments else {}
        follows = self._next == (uid, frame.number, frame.row)
        about = (axes, scan, descriptor)
        if not follows or (last["axes"], last.get("scan", []), last.get("descriptor", 0)) != about:
            if self._next is not None:
                self.segments[-1]["rows"] = self._next[2] - self.segments[-1]["row"]
            segment = {"row": frame.row, "number": frame.number, "axes": axes, "run": uid}
            segment |= {"scan": scan} if scan else {}
            segment |= {"descriptor": descriptor} if descriptor else {}
            self.segments.append(segment)
            self._changed = True
        self._next = (uid, frame.number + frame.count, frame.row + frame.count)
        self._add_facts(frame)

    def fail(self, frame: Frame, reason: str) -> None:
        """Record that a row (or the rows of a block) has no data, and why."""
        self.failed.update(dict.fromkeys(map(str, frame.rows), reason))
        self._changed = True

    @property
    def size(self) -> dict[str, int]:
        """Number of entries that have been described; never decreases."""
        return {
            "segments": len(self.segments), "failed": len(self.failed),
            "facts": self._facts_described,
        }  # fmt: skip

    def dump(self) -> dict[str, Any]:
        """Return the metadata that Tiled keeps under `KEY`."""
        self._changed, self._facts_described = False, len(self.facts)
        self._facts_end = self._rows if len(self.facts) >= FACTS_LIMIT else None
        described = {"segments": self.segments, "failed": self.failed, "facts": [*self.facts]}
        return described | ({} if self._facts_end is None else {"facts_end": self._facts_end})

    def _add_facts(self, frame: Frame) -> None:
        facts = {key: value for key, value in frame.metadata.items() if _is_known(value)}
        gone = dict.fromkeys(self._last_facts.keys() - facts.keys())
        changes = gone | {
            key: value
            for key, value in facts.items()
            if key not in self._last_facts or self._last_facts[key] != value
        }
        if changes:
            self.facts.append((frame.row, changes))
            self._last_facts = facts


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
    'a.eels/6'
    """
    segment = _segment(segments, row)
    number = segment["number"] + row - segment["row"]
    return f"{base_of(segment['run'], detector)}/{number}"


def lengths(segments: Sequence[Mapping[str, Any]], end: int) -> list[int]:
    """Return the number of rows of each segment; passes over a map may end before their last row.

    >>> lengths([{"row": 0, "rows": 2}, {"row": 4}], end=7)
    [2, 3]
    """
    return [each.get("rows", end - each["row"]) for each in segments]


def rows_taken(array: Any) -> int:
    """Return the row after the last one of a map in Tiled, whose array has all lines at once."""
    return array.include_data_sources().data_sources()[0].properties["rows"]


def row_of(segments: Sequence[Mapping[str, Any]], index: int) -> int:
    """Return the row of the frame `index`, which counts the frames that were taken.

    >>> row_of([{"row": 0, "rows": 2}, {"row": 4}], 3)
    5
    """
    for segment in segments:
        if index < segment.get("rows", math.inf):
            return segment["row"] + index
        index -= segment["rows"]
    raise LookupError("the last segment has no end")


def axes_at(segments: Sequence[Mapping[str, Any]], row: int) -> tuple[Axis, ...]:
    """Return the axes of the frame in a row."""
    return tuple(Axis.load(axis) for axis in _segment(segments, row)["axes"])


def descriptor_at(segments: Sequence[Mapping[str, Any]], row: int) -> int:
    """Return the number, from 0, of the descriptor that was valid for the frame in a row."""
    return _segment(segments, row).get("descriptor", 0)


def facts_at(about: Mapping[str, Any], row: int) -> dict[str, Any] | None:
    """Return the facts of the frame in a row; None if the map does not have them (yet).

    >>> about = {"facts": [[0, {"exposure": 0.1, "frames": 2}], [3, {"exposure": 0.2}]]}
    >>> facts_at(about, 2), facts_at(about, 7)
    ({'exposure': 0.1, 'frames': 2}, {'exposure': 0.2, 'frames': 2})
    """
    if "facts" not in about or row >= about.get("facts_end", math.inf):
        return None
    facts: dict[str, Any] = {}
    for first, changes in about["facts"]:
        if first > row:
            break
        facts |= changes
    return {key: value for key, value in facts.items() if value is not None}


def common_facts(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts that are the same in all rows.

    >>> facts = [[0, {"exposure": 0.1, "frames": 2}], [3, {"exposure": 0.2}]]
    >>> common_facts({"segments": [{"row": 0}], "facts": facts})
    {'frames': 2}
    """
    changes = about.get("facts", ())
    first = changes[0][1] if changes and changes[0][0] == about["segments"][0]["row"] else {}
    changed = {key for _, later in changes[1:] for key in later}
    return {key: value for key, value in first.items() if key not in changed}


def _is_known(value: Any) -> bool:
    """Return whether a fact has a value; JSON has neither NaN nor infinity."""
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))


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
