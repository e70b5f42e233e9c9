"""The values in a stream's events, read from Tiled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bluesky_em.files.document_values import column
from bluesky_em.files.tiled.stream_keys import StreamKeys

from ._dataset import Events
from .follow import read_rows


def read_columns(metadata: Mapping[str, Any], nodes: Mapping[str, Any]) -> Events:
    """Read the events of a stream.

    Args:
        metadata: of the stream's node.
        nodes: its children: tables, arrays and ragged arrays.
    """
    stream = StreamKeys.of(metadata)
    found = _read(nodes, set(stream.internal))
    count = len(found["seq_num"])
    columns = {}
    for name, data_key in stream.internal.items():
        values = [stream.value(name, stored) for stored in found.get(name, [])[:count]]
        values = [*values, *[None] * (count - len(values))]
        columns[stream.keys[name]] = (column(values, data_key), data_key.get("units") or "")
    return Events(time=found["time"], seq_num=found["seq_num"], columns=columns)


def _read(nodes: Mapping[str, Any], wanted: set[str]) -> dict[str, Any]:
    """Return the values by column, one per event; a fly scan has no events."""
    found: dict[str, Any] = {"seq_num": [], "time": []}
    for name, node in nodes.items():
        family = node.item["attributes"]["structure_family"]
        if family == "table":
            rows = read_rows(node)
            for each in node.columns:
                if each in wanted or each in found:
                    found[each] = [row[each] for row in rows]
        elif name in wanted:
            found[name] = node.read() if family == "array" else node.read().tolist()
    return found
