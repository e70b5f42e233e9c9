"""The rows of a stream whose descriptors have different keys."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from bluesky_em.files.tiled.stream_keys import Keys
from bluesky_em.files.tiled.values import blank

_STAMP = "ts_"  # prefix of a time stamp's column

Row = dict[str, Any]


class KeyGroups:
    """A stream's keys: those of its first descriptor, and those that each later one adds.

    The columns of a table in Tiled cannot change, so each group has a table (and arrays) of its
    own, with a row for every event. Groups depend on the documents alone, not on how they were
    divided into flushes, so that a repeated attempt writes the same. Only the first group has
    number and time of the events: Tiled refuses two columns of one name in a stream.
    """

    def __init__(self, data_keys: Keys):
        self.groups: list[tuple[int, Keys]] = [(0, _internal(data_keys))]
        """first row that can have values, and data keys"""
        self._known = set(data_keys)
        self._events = 0
        self._written = 0
        self._groups_written = 0

    def add(self, data_keys: Keys) -> Keys:
        """Add the new keys of a later descriptor as a group; return them."""
        new = {key: about for key, about in data_keys.items() if key not in self._known}
        self._known.update(new)
        if _internal(new):
            self.groups.append((self._events, _internal(new)))
        return new

    def count(self) -> None:
        """Count an event."""
        self._events += 1

    @property
    def later(self) -> list[dict[str, Any]]:
        """The entry `later_keys` of `StreamKeys`."""
        return [{"row": row, "data_keys": dict(keys)} for row, keys in self.groups[1:]]

    def divide(self, rows: Sequence[Row]) -> list[list[Row]]:
        """Return the rows of each group for new events; a new group begins at the first event."""
        first, *later = [_template(keys) for _, keys in self.groups]
        others = {column for template in later for column in template}
        divided = [[first | {c: v for c, v in row.items() if c not in others} for row in rows]]
        for number, template in enumerate(later, start=1):
            before = 0 if number < self._groups_written else self._written
            new = [template | {c: v for c, v in row.items() if c in template} for row in rows]
            divided.append([dict(template) for _ in range(before)] + new)
        self._written += len(rows)
        self._groups_written = len(self.groups)
        return divided


def _internal(data_keys: Keys) -> Keys:
    return {key: about for key, about in data_keys.items() if "external" not in about}


def _template(keys: Keys) -> Row:
    """Return the row of an event without values."""
    stamps = {f"{_STAMP}{key}": math.nan for key in keys}
    return {key: blank(about) for key, about in keys.items()} | stamps
