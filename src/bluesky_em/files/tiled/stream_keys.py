"""The keys of a stream's events, and the columns that hold them in Tiled."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .row_map import KEY
from .values import as_stored

Keys = Mapping[str, Mapping[str, Any]]
"""data keys by name"""


@dataclass(frozen=True, kw_only=True)
class StreamKeys:
    """The keys of a stream, as its node in Tiled describes them.

    The node's metadata are the first descriptor's. Under `KEY` they add what it lacks:
    `name` (of the stream, where the node has another), `columns` (name of the column by key, where
    they differ), `refused` (data keys of columns that are JSON text since Tiled refused them) and
    `later_keys`, one entry for each later descriptor that has new keys: its `data_keys`, and `row`,
    the first row with values.
    """

    data_keys: Keys
    """all data keys, by column; those of refused columns describe the value, not its text"""
    keys: Mapping[str, str]
    """key by column"""
    since: Mapping[str, int]
    """by column: the first row that has it"""
    refused: Keys
    """those whose values are JSON text"""

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> StreamKeys:
        """Read the metadata of a stream's node; those of an older catalog have nothing under `KEY`.

        >>> StreamKeys.of({"data_keys": {"x_": {}}, KEY: {"columns": {"x": "x_"}}}).keys
        {'x_': 'x'}
        """
        about = metadata.get(KEY, {})
        groups = [{"row": 0, "data_keys": metadata["data_keys"]}, *about.get("later_keys", [])]
        data_keys = {c: key for group in groups for c, key in group["data_keys"].items()}
        keys = {column: key for key, column in about.get("columns", {}).items()}
        refused = about.get("refused", {})
        return cls(
            refused=refused,
            data_keys=data_keys | refused,
            keys={column: keys.get(column, column) for column in data_keys},
            since={column: group["row"] for group in groups for column in group["data_keys"]},
        )

    def value(self, column: str, stored: Any) -> Any:
        """Return the value of an event that is stored in a column."""
        if isinstance(stored, list):
            return _with_nan(stored)
        refused = self.refused.get(column)
        if refused is None or refused.get("dtype") == "string" or not isinstance(stored, str):
            return stored
        return as_stored(refused)(_decoded(stored))

    @property
    def internal(self) -> Keys:
        """The data keys of values that are in the events, by column."""
        return {c: about for c, about in self.data_keys.items() if "external" not in about}


def _with_nan(stored: list[Any]) -> list[Any]:
    """Return an array with NaN again where Tiled's client wrote null."""
    return [
        _with_nan(each) if isinstance(each, list) else math.nan if each is None else each
        for each in stored
    ]


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text  # a string is not written as JSON


def streams(run: Any) -> dict[str, Any]:
    """Return the children of a run's node by the names that they have in its documents."""
    return {node.metadata.get(KEY, {}).get("name", key): node for key, node in run.items()}
