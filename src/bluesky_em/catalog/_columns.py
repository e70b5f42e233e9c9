"""The types of an event table's columns: what the descriptor says, not what came first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow

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
    if data_key.get("dtype") == "array" and pyarrow.types.is_list(guessed):
        dtype = data_key.get("dtype_numpy")
        if isinstance(dtype, str) and np.dtype(dtype).kind in "iufb":
            return pyarrow.list_(pyarrow.from_numpy_dtype(np.dtype(dtype)))
        return guessed
    return _TYPES.get(data_key.get("dtype", ""), guessed)
