"""Values of documents, converted to arrays and to text."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def to_array(values: Sequence[Any]) -> np.ndarray:
    """Return successive values as one array.

    Numbers, and arrays of one shape, stay numbers (None is NaN); all else is text (dtype object).

    >>> to_array([1, None, 2.5])
    array([1. , nan, 2.5])
    >>> to_array(["on", {"x": 1}])
    array(['on', '{"x": 1}'], dtype=object)
    """
    try:
        array = np.asarray([np.nan if value is None else value for value in values])
    except ValueError:  # of several shapes
        array = np.empty(0, dtype=object)
    if array.dtype.kind in "biufc":
        return array
    return np.asarray([v if isinstance(v, str) else to_json(v) for v in values], dtype=object)


def as_described(value: Any, data_key: Mapping[str, Any]) -> Any:
    """Return the value of an event in the type that its data key describes.

    Journal and Tiled keep one value in different types; readers of both return this one. A number
    is a float, and None a NaN; an array has the key's dtype, and None is an array of NaN, 0, False
    or ''; a 1-D array of floats that is too short is filled up with NaN. Lists of strings are
    arrays of strings. A value of another type than described is returned unchanged.

    Args:
        value: as in the event.
        data_key: its data key in the descriptor.
    """
    dtype = data_key.get("dtype")
    if dtype == "array":
        return _described_array(value, data_key)
    if isinstance(value, (np.ndarray, np.generic)) and np.ndim(value) == 0:
        value = value.item()
    is_number = isinstance(value, (int, float))
    if dtype == "number" and (value is None or is_number):
        return math.nan if value is None else float(value)
    if dtype == "integer" and is_number:
        return int(value) if math.isfinite(value) and value == int(value) else None
    if dtype == "boolean" and is_number and value in (0, 1):
        return bool(value)
    if dtype == "string" and is_number:
        return str(value)
    return value


def as_array(value: Any) -> np.ndarray:
    """Return nested lists, or an array, as an array; integers of up to 64 bits stay what they are.

    >>> as_array([2**64 - 1, 0])  # `numpy.asarray` returns floats
    array([18446744073709551615,                    0], dtype=uint64)

    Raises:
        ValueError: the lists have several lengths.
    """
    array = np.asarray(value)
    if array.size and array.dtype.kind == "f" and isinstance(value, (list, tuple)):
        objects = np.asarray(value, dtype=object)
        if all(type(each) is int and 0 <= each < 2**64 for each in objects.flat):
            return objects.astype(np.uint64)
    return array


def column(values: Sequence[Any], data_key: Mapping[str, Any]) -> np.ndarray:
    """Return the values of one key, one per event, as one array, shape `(events, ...)`.

    Strings have the dtype object. Values of several shapes, or of a type that the data key does not
    describe, are text.

    >>> column([1, None], {"dtype": "number"})
    array([ 1., nan])
    >>> column([["on", "off"]], {"dtype": "array", "shape": [2], "dtype_numpy": "|S40"})
    array([['on', 'off']], dtype=object)
    """
    described = [as_described(value, data_key) for value in values]
    if not described:
        return _empty(data_key)
    arrays = [value for value in described if isinstance(value, np.ndarray)]
    if len(arrays) == len(described) and {(a.dtype.kind, a.shape) for a in arrays} == {
        ("U", arrays[0].shape)
    }:
        return np.stack(arrays).astype(object)
    if data_key.get("dtype") == "string" and all(isinstance(v, str) for v in described):
        return np.asarray(described, dtype=object)
    return to_array(described)


def to_json(value: Any) -> str:
    """Return a document, or a part of one, as ASCII JSON; NaN is `NaN`, as in Python.

    >>> to_json({"profile": np.arange(3)})
    '{"profile": [0, 1, 2]}'
    """
    return json.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        if value.dtype.kind in "fc":  # `tolist` would return long doubles unchanged
            value = value.astype(np.float64 if value.dtype.kind == "f" else np.complex128)
        return value.tolist()
    return [value.real, value.imag] if isinstance(value, complex) else str(value)


def _described_array(value: Any, data_key: Mapping[str, Any]) -> Any:
    shape, dtype = tuple(data_key.get("shape") or ()), _dtype(data_key)
    if dtype is None:
        return value
    if value is None:
        return _blank(shape, dtype)
    try:
        array = as_array(value)
    except ValueError:  # of several lengths
        return value
    if array.size == 0:
        rest = [size or 0 for size in shape[array.ndim :]]
        return np.zeros((*array.shape, *rest), "<U1" if dtype.kind in "SU" else dtype)
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace")
    if array.dtype.kind == "U" and dtype.kind in "SU":
        return array
    if not {array.dtype.kind, dtype.kind} <= set("biufc"):
        return value
    converted = with_dtype(array, dtype)
    return filled_up(array if converted is None else converted, shape)


def _dtype(data_key: Mapping[str, Any]) -> np.dtype | None:
    """Return an array's dtype; None for structured ones and objects."""
    name = data_key.get("dtype_numpy") or "<f8"
    try:
        dtype = np.dtype(name) if isinstance(name, str) else None
    except TypeError:
        return None
    return dtype if dtype is not None and dtype.kind != "O" else None


def _blank(shape: Sequence[int | None], dtype: np.dtype) -> np.ndarray:
    sizes = [size or 0 for size in shape]
    if dtype.kind in "SU":
        return np.full(sizes, "", "<U1")
    return np.full(sizes, np.nan if dtype.kind in "fc" else dtype.type(), dtype)


def with_dtype(array: np.ndarray, dtype: np.dtype) -> np.ndarray | None:
    """Convert an array; None if that would change its values beyond the rounding of floats."""
    if array.dtype.kind == "c" and dtype.kind != "c":
        return None
    with np.errstate(invalid="ignore", over="ignore"):
        converted = array.astype(dtype)
    is_float = dtype.kind in "fc"
    kept = (np.isfinite(converted), np.isfinite(array)) if is_float else (converted, array)
    return converted if np.array_equal(*kept) else None


def filled_up(array: np.ndarray, shape: Sequence[int | None]) -> np.ndarray:
    """Fill a spectrum up with NaN to the length that its data key describes."""
    if array.dtype.kind not in "fc" or array.ndim != 1 or len(shape) != 1 or shape[0] is None:
        return array
    return np.pad(array, (0, max(0, shape[0] - len(array))), constant_values=np.nan)


def _empty(data_key: Mapping[str, Any]) -> np.ndarray:
    """Return the column of a stream without events."""
    scalars = {"number": "<f8", "integer": "<i8", "boolean": "|b1"}
    shape, dtype = data_key.get("shape") or (), _dtype(data_key)
    if data_key.get("dtype") != "array" or dtype is None or None in shape:
        return np.empty(0, scalars.get(data_key.get("dtype", ""), "O"))
    return np.empty((0, *shape), dtype if dtype.kind in "biufc" else "O")
