"""The form in which Tiled stores the values of a data key: a column, an array, or text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

_SCALARS = ("number", "integer", "boolean", "string")
_WIDER = {"float16": "<f4", "longdouble": "<f8"}  # by type: what the table and array stores lack
DEFAULT_DTYPES = {
    "number": "<f8", "array": "<f8", "integer": "<i8", "boolean": "|b1", "string": "<U0",
}  # fmt: skip
"""dtype of a data key that has none"""
COLUMN_LIMIT = 16  # elements of an array in a column; a larger one is an array of its own
TEXT_DTYPE = "<U0"


def storable(data_key: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data key that Tiled stores for one of a document: itself where that is possible.

    Wider numbers replace those that Tiled cannot store. Values of structured and other types, and
    arrays of several variable lengths, become JSON text.
    """
    key = {"source": "", **data_key}
    dtype = numpy_dtype(data_key)
    if data_key.get("dtype") == "array":
        return _storable_array(key, dtype)
    if data_key.get("dtype") not in _SCALARS or dtype is None or dtype.kind in "cmMVO":
        return as_text(key)
    return {**key, "shape": []}


def as_text(data_key: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data key of the values as JSON text."""
    kept = {name: data_key[name] for name in ("source", "units") if name in data_key}
    return {"source": "", **kept, "dtype": "string", "shape": [], "dtype_numpy": TEXT_DTYPE}


def numpy_dtype(data_key: Mapping[str, Any]) -> np.dtype | None:
    """Return the dtype of a data key as the run writer reads it; None for structured ones."""
    fallback = DEFAULT_DTYPES.get(str(data_key.get("dtype")), "<f8")
    dtype = data_key.get("dtype_numpy") or data_key.get("dtype_str") or fallback
    if data_key.get("dtype_descr"):
        return None
    try:
        return np.dtype(dtype) if isinstance(dtype, str) else None
    except TypeError:
        return None


def is_ragged(data_key: Mapping[str, Any]) -> bool:
    """Check whether the arrays of a storable data key have a variable length."""
    return data_key["dtype"] == "array" and None in data_key["shape"]


def has_node(data_key: Mapping[str, Any]) -> bool:
    """Check whether a storable data key has an array of its own, not a column of the table."""
    if data_key["dtype"] != "array" or is_ragged(data_key):
        return False
    dtype = numpy_dtype(data_key)
    assert dtype is not None, "a storable one has a dtype"
    return math.prod(data_key["shape"]) > COLUMN_LIMIT or dtype.kind in "USc"


def _storable_array(data_key: dict[str, Any], dtype: np.dtype | None) -> dict[str, Any]:
    shape = _shape(data_key.get("shape"))
    if dtype is None or dtype.kind not in "biufcUS" or not dtype.itemsize or shape is None:
        return as_text(data_key)
    if (0 in shape or not shape) and dtype.kind in "USc":  # Tiled has no such array
        return as_text(data_key)
    if None in shape and (None in shape[1:] or 0 in shape or dtype.kind not in "biuf"):
        return as_text(data_key)
    wider = _WIDER.get(dtype.type.__name__, _native(dtype))
    stored = {**data_key, "shape": shape, "dtype_numpy": wider}
    for name in ("dtype_str", "dtype_descr"):
        stored.pop(name, None)
    return stored


def _native(dtype: np.dtype) -> str:
    """Return a dtype without its byte order; complex numbers have at most 128 bits here."""
    if dtype.kind == "c" and dtype.itemsize > 16:
        return "<c16"
    return dtype.newbyteorder("<").str


def _shape(shape: Any) -> list[int | None] | None:
    """Return a shape as a list; None if it is not one."""
    if shape is None:
        return []
    if not isinstance(shape, (list, tuple, np.ndarray)):
        return None
    sizes = [None if size is None else size for size in shape]
    are_sizes = all(size is None or (isinstance(size, int) and size >= 0) for size in sizes)
    return sizes if are_sizes else None
