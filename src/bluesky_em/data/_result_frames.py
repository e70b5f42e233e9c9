"""The values in a run of results, with their axes, as maps where their frames are maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np

from bluesky_em.axes import Axis
from bluesky_em.files import result_columns
from bluesky_em.files.document_values import to_json
from bluesky_em.files.scan_map import Block

from ._dataset import Events, Frames, unknown_axes


def take_results(
    events: Events, start: Mapping[str, Any], configuration: Mapping[str, Any]
) -> tuple[Events, list[Frames]]:
    """Return the other columns of a run of results, and its values; none for any other run.

    Args:
        events: of a stream.
        start: the run's start document.
        configuration: of the stream, by device.
    """
    key = result_columns.value_key(start)
    if key not in events.columns or result_columns.AXES not in events.columns:
        return events, []
    values = events.columns[key][0]
    if values.dtype == object or not len(values):  # of several shapes, or none
        return events, []
    taken = {
        name: events.columns[name][0] for name in result_columns.NAMES if name in events.columns
    }
    left = {
        name: column
        for name, column in events.columns.items()
        if name == result_columns.REFERENCE or name not in (key, *result_columns.NAMES)
    }
    rows, blocks, places = _as_passes(values, taken)
    rows_by_axes = [
        (range(places[group[0]], places[group[-1]] + 1), _axes(text, values))
        for text, group in _grouped(taken[result_columns.AXES])
    ]
    results = Frames(
        detector=key, rows=rows, axes=rows_by_axes[0][1], blocks=blocks, rows_by_axes=rows_by_axes,
        attrs=_facts(start["raw"]["detector"], configuration), units="",
    )  # fmt: skip
    return replace(events, columns=left), [results]


def _grouped(texts: np.ndarray) -> list[tuple[str, list[int]]]:
    """Return equal texts that follow each other, with their indices."""
    groups = groupby(range(len(texts)), key=lambda index: texts[index])
    return [(text, [*indices]) for text, indices in groups]


def _axes(text: str, values: np.ndarray) -> tuple[Axis, ...]:
    return result_columns.load(text) or unknown_axes(values.shape[1:])


def _as_passes(
    values: np.ndarray, columns: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, list[Block], Sequence[int]]:
    """Return values in the order of the points of their maps, where lost frames have NaN, or 0.

    Returns:
        Rows, a block for each pass over a map, and the row of each value.
    """
    scans, points = columns.get(result_columns.SCAN), columns.get(result_columns.POINT)
    if scans is None or points is None or not all(map(result_columns.load, scans)):
        return values, [], range(len(values))
    blocks: list[Block] = []
    places: list[int] = []
    size, last = 0, ("", -1)
    for text, point in zip(scans, map(int, points), strict=True):
        if text != last[0] or point <= last[1]:
            scan = result_columns.load(text)
            count = scan[0].size * scan[1].size
            blocks.append((scan, size, count, size))
            size += count
        last = text, point
        places.append(blocks[-1][1] + point)
    fill = np.nan if values.dtype.kind == "f" else 0
    rows = np.full((size, *values.shape[1:]), fill, values.dtype)
    rows[places] = values
    return rows, blocks, places


def _facts(detector: str, configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the raw frames' detector, under the names of a frame's facts."""
    settings = configuration.get(detector, {}).get("data", {})
    return {
        key.removeprefix(f"{detector}-"): value
        if isinstance(value, (str, int, float))
        else to_json(value)
        for key, value in settings.items()
    }
