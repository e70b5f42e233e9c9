"""Column types of an event table: taken from the descriptor, not from the first rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow

from .storable import numpy_dtype

_TYPES = {
    "number": pyarrow.float64(),
    "integer": pyarrow.int64(),
    "boolean": pyarrow.bool_(),
    "string": pyarrow.string(),
}


def column_types(schema: pyarrow.Schema, data_keys: Mapping[str, Any]) -> pyarrow.Schema:
    """Return a schema in which each column has the type of its data key.

    Tiled fixes a table's types when it writes the first rows, and their values may be integers in
    a column of numbers, or missing.

    Args:
        schema: as guessed from some rows.
        data_keys: of the descriptor, by column name; other columns are not changed.
    """
    for index, column in enumerate(schema):
        wanted = _type_of(data_keys.get(column.name, {}), column.type)
        schema = schema.set(index, column.with_type(wanted))
    return schema


def is_column(values: Sequence[Any], data_key: Mapping[str, Any]) -> bool:
    """Check whether a column of its data key's type can hold some values."""
    try:
        array = pyarrow.array(values)
        array.cast(_type_of(data_key, array.type))
    except (pyarrow.ArrowException, OverflowError):
        return False
    return True


def of_schema(table: pyarrow.Table, schema: pyarrow.Schema) -> pyarrow.Table:
    """Return the columns of a schema, empty where the table has none of that name."""
    return pyarrow.table(
        [
            table[field.name].cast(field.type)
            if field.name in table.column_names
            else pyarrow.nulls(table.num_rows, field.type)
            for field in schema
        ],
        schema=schema,
    )


def _type_of(data_key: Mapping[str, Any], guessed: pyarrow.DataType) -> pyarrow.DataType:
    dtype = numpy_dtype(data_key)
    if data_key.get("dtype") == "array" and dtype is not None and dtype.kind in "iufb":
        wanted = pyarrow.from_numpy_dtype(dtype)
        for _ in data_key.get("shape") or (1,):
            wanted = pyarrow.list_(wanted)
        return wanted
    if data_key.get("dtype") == "integer" and dtype == np.dtype("<u8"):
        return pyarrow.uint64()
    return _TYPES.get(data_key.get("dtype", ""), guessed)
