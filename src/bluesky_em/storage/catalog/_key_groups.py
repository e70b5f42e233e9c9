"""The rows of a stream whose descriptors have different keys."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bluesky_em.files.tiled.stream_keys import Keys
from bluesky_em.files.tiled.values import blank, numpy_dtype

_SHARED = ("seq_num", "time")
_STAMP = "ts_"  # prefix of a time stamp's column

Row = dict[str, Any]


class KeyGroups:
    """A stream's keys: those of its first descriptor, and those that each later one adds.

    The columns of a table in Tiled cannot change, so each group has a table (and arrays) of its
    own, with a row for every event. Groups depend on the documents alone, not on how they were
    divided into flushes, so that a repeated attempt writes the same.
    """

    def __init__(self, data_keys: Keys):
        self.groups: list[tuple[int, Keys]] = [(0, _internal(data_keys))]
        """first row that can have values, and data keys"""
        self._known = set(data_keys)
        self._seq_num, self._time = array("q"), array("d")
        self._written = 0

    def add(self, data_keys: Keys) -> Keys:
        """Add the new keys of a later descriptor as a group; return them."""
        new = {key: about for key, about in data_keys.items() if key not in self._known}
        self._known.update(new)
        if _internal(new):
            self.groups.append((len(self._time), _internal(new)))
        return new

    def count(self, event: Mapping[str, Any]) -> None:
        """Take note of an event."""
        self._seq_num.append(event["seq_num"])
        self._time.append(event["time"])

    @property
    def later(self) -> list[dict[str, Any]]:
        """The entry `later_keys` of `StreamKeys`."""
        return [{"row": row, "data_keys": dict(keys)} for row, keys in self.groups[1:]]

    def divide(self, rows: Sequence[Row]) -> list[list[Row]]:
        """Return the rows of each group for new events; a new group begins at the first event."""
        later = {c for _, keys in self.groups[1:] for key in keys for c in (key, _STAMP + key)}
        divided = []
        for number, (first, keys) in enumerate(self.groups):
            template = _template(keys)
            own = {*_SHARED, *template}
            added = []
            if number and first >= self._written:
                added = [self._row(n) | template for n in range(self._written)]
            divided.append(
                added
                + [
                    _template(keys)
                    | {c: v for c, v in row.items() if c in own or (number == 0 and c not in later)}
                    for row in rows
                ]
            )
        self._written += len(rows)
        return divided

    def _row(self, number: int) -> Row:
        return {"seq_num": self._seq_num[number], "time": self._time[number]}


def _internal(data_keys: Keys) -> Keys:
    return {key: about for key, about in data_keys.items() if "external" not in about}


def _template(keys: Keys) -> Row:
    """Return the row of an event without values."""
    stamps = {f"{_STAMP}{key}": math.nan for key in keys}
    return {key: _missing(about) for key, about in keys.items()} | stamps


def _missing(data_key: Mapping[str, Any]) -> Any:
    """Return the placeholder of a missing value; a ragged array has a row without elements."""
    shape, dtype = data_key.get("shape") or (), numpy_dtype(data_key)
    if data_key.get("dtype") == "array" and None in shape and dtype is not None:
        return np.zeros([size or 0 for size in shape], dtype)
    return blank(data_key)
