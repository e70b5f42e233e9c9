"""The types of an event table's columns: what the descriptor says, not what came first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow

from .values import numpy_dtype

_TYPES = {
    "number": pyarrow.float64(),
    "integer": pyarrow.int64(),
    "boolean": pyarrow.bool_(),
    "string": pyarrow.string(),
}


def column_types(schema: pyarrow.Schema, data_keys: Mapping[str, Any]) -> pyarrow.Schema:
    """Give each column the type of its data key.

    A table's types are fixed by its first rows, and those may be integers in a column of
    numbers, or missing.

    Args:
        schema: as guessed from some rows.
        data_keys: of the descriptor, by column name; other columns stay as they are.
    """
    for index, column in enumerate(schema):
        wanted = _type_of(data_keys.get(column.name, {}), column.type)
        schema = schema.set(index, column.with_type(wanted))
    return schema


def _type_of(data_key: Mapping[str, Any], guessed: pyarrow.DataType) -> pyarrow.DataType:
    dtype = numpy_dtype(data_key)
    if data_key.get("dtype") == "array" and dtype is not None and dtype.kind in "iufb":
        wanted = pyarrow.from_numpy_dtype(dtype)
        for _ in data_key.get("shape") or (1,):
            wanted = pyarrow.list_(wanted)
        return wanted
    return _TYPES.get(data_key.get("dtype", ""), guessed)
