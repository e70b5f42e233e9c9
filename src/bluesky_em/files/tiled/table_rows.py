"""The rows of a table in Tiled: read as they are stored, and compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow

_ARROW = "application/vnd.apache.arrow.file"


def read(table: Any, columns: Sequence[str] = ()) -> pyarrow.Table:
    """Read a table's node, or some of its columns, in the order in which rows were appended."""
    from tiled.client.utils import handle_error  # seconds of imports

    wanted = [*(columns or table.columns)]
    response: Any = table.context.http_client.get(
        table.item["links"]["full"],
        params={"column": wanted} if columns else {},
        headers={"Accept": _ARROW},
    )
    handle_error(response)
    return pyarrow.ipc.open_file(response.read()).read_all().select(wanted)


def differing(found: pyarrow.Table, expected: pyarrow.Table) -> Iterator[tuple[str, int]]:
    """Yield each column in which tables of one length differ, and the first row of that."""
    for name in expected.column_names:
        one, other = found[name], expected[name]
        if _are_equal(one, other):
            continue
        pairs = zip(one.to_pylist(), other.to_pylist(), strict=True)
        for row, (value, wanted) in enumerate(pairs):
            if not is_same(value, wanted):
                yield name, row
                break


def is_same(found: Any, expected: Any) -> bool:
    """Check whether a value from Tiled is the one that was written.

    Tiled returns a missing value as NaN, NaN in a list as None, and integers among which some are
    missing as floats.
    """
    if isinstance(expected, (list, np.ndarray)) or isinstance(found, (list, np.ndarray)):
        if not (isinstance(found, (list, np.ndarray)) and len(found) == len(expected)):
            return False
        return all(map(is_same, found, expected))
    if _is_missing(found) or _is_missing(expected):
        return _is_missing(found) and _is_missing(expected)
    if isinstance(found, float) and isinstance(expected, int):
        return found == float(expected)
    return bool(found == expected)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, (float, np.floating)) and bool(np.isnan(value)))


def _are_equal(one: pyarrow.ChunkedArray, other: pyarrow.ChunkedArray) -> bool:
    """Compare two columns as a whole; those with NaN are never equal here."""
    try:
        return one.type == other.type and one.equals(other)
    except pyarrow.ArrowException:
        return False
