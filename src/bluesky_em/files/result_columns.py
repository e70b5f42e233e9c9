"""The columns in the events of a run of results, which say what each value belongs to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bluesky_em.axes import Axis
from bluesky_em.documents import PROCESSED

REFERENCE = "reference"
"""Of the raw frame."""
AXES = "axes"
"""Of the value, as JSON; empty if they are not known."""
SCAN = "scan"
"""The axes (y, x) of the map that the frame is a point of, as JSON; absent if it is none."""
POINT = "point"
"""Index of the frame in that map, in C order; absent if it is no map."""
NAMES = (REFERENCE, AXES, SCAN, POINT)


def value_key(start: Mapping[str, Any]) -> str:
    """Return the data key of the values in a run of results; empty for any other run.

    >>> value_key({"input": {"run": "…"}, "analysis": {"function": "my_functions.py:edge"}})
    'edge'
    >>> value_key({"analysis": "to do"})  # of a plan's own
    ''
    """
    about, given = start.get(PROCESSED), start.get("input")
    if not (isinstance(about, Mapping) and isinstance(given, Mapping) and "run" in given):
        return ""
    return str(about.get("function", "")).rpartition(":")[2]


def dump(axes: Sequence[Axis]) -> str:
    """Return axes as the text in a column."""
    return json.dumps([asdict(axis) for axis in axes])


def load(text: str) -> tuple[Axis, ...]:
    """Return the axes in the text of a column."""
    return tuple(map(Axis.load, json.loads(text)))
