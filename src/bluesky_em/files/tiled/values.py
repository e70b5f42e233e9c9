"""Conversion of document values to the columns, types and JSON that Tiled can store.

Pure functions. The caller leaves out what cannot be converted and records it in the run's notes;
the journal keeps the original.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import numpy as np

from ..document_values import as_array, filled_up, to_json, with_dtype
from ..plain_values import encodable, simplify, text_of
from .storable import has_node, is_ragged, numpy_dtype, storable

_TABLE = r"internal(_(text|later|\d+))*$"  # names of the tables of events
_COLUMN = re.compile(rf"(?!(?i:ts_|{_TABLE}))[A-Za-z](?!.*--)[^'\"`;\\%()=+/?#\x00-\x1f\x7f]*")
"""Names that every database and every address accepts, and that are not those of time stamps."""
_ADDRESSABLE = re.compile(rf"(?!{_TABLE}|\.\.?$)[^/\\?#%\x00-\x1f\x7f]+")
"""Names of arrays and streams that can be part of an address, other than those of tables."""
JSON_DEPTH_LIMIT = 100  # levels of metadata; what is deeper becomes text
_NAME_BYTES = 56  # a database accepts 63, and the name of a time stamp column begins with `ts_`
_RESERVED = {"time", "seq_num"}


def columns(keys: Iterable[str], known: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the name of each data key's column: the key itself if a database accepts it.

    Names differ even if case is ignored, and differ from the columns that every table has.

    Args:
        keys: of one descriptor.
        known: the names that an earlier descriptor of the stream gave; they do not change.
    """
    keys, known = list(keys), known or {}
    names = {key: known[key] for key in keys if key in known}
    taken = _RESERVED | {name.lower() for name in known.values()}
    new = [key for key in keys if key not in known]
    for key in sorted(new, key=lambda key: (not _is_column(key) or key in _RESERVED, key)):
        name = key if _is_column(key) else _safe_name(key)
        while name.lower() in taken:
            name = f"{name}_"
        taken.add(name.lower())
        names[key] = name
    return names


def address_name(name: str) -> str:
    """Return the name of a stream or an array in Tiled: its own where it can be in an address."""
    return name if _ADDRESSABLE.fullmatch(name) else _safe_name(name)


def text_name(name: str, taken: Collection[str]) -> str:
    """Return the name of the column that has the values of another column as text."""
    text = f"{name}_text" if len(name.encode()) < _NAME_BYTES - 5 else f"{_safe_name(name)}_t"
    while text in taken:
        text = f"{text}_"
    return text


def fit(value: Any, data_key: Mapping[str, Any]) -> Any:
    """Return a value in the type that its storable data key promises; None stays None.

    Raises:
        ValueError: the value has another type and the conversion would change it.
    """
    dtype = data_key["dtype"]
    if dtype == "array":
        return _fit_array(value, data_key)
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    is_number = isinstance(value, (int, float))
    if value is None:
        return value
    if dtype == "number" and is_number:
        return float(value)
    if dtype == "integer" and is_number and value == int(value):
        return _fit_integer(int(value), data_key)
    if dtype == "boolean" and is_number and value in (0, 1):
        return bool(value)
    if dtype == "string" and (is_number or isinstance(value, str)):
        return encodable(str(value))
    raise ValueError(f"{value!r} is not of type {dtype}")


def as_stored(data_key: Mapping[str, Any]) -> Callable[[Any], Any]:
    """Return a function that converts a value of an event to what Tiled has of it.

    That is text for values which Tiled cannot store, and a placeholder for one that is not of the
    type its data key promises.
    """
    key = storable(data_key)
    if key["dtype"] != data_key.get("dtype"):
        return text

    def fitted(value: Any) -> Any:
        try:
            return fit(value, key)
        except Exception:  # whatever the conversion of an unexpected value raises
            return blank(key)

    return fitted


def text(value: Any) -> str | None:
    """Return a value as text: a string as it is, all else as JSON; None stays None."""
    if value is None:
        return None
    return encodable(value) if isinstance(value, str) else to_json(simplify(value))


def blank(data_key: Mapping[str, Any]) -> Any:
    """Return the placeholder of a value that was left out: None, or an array of NaN, 0 or ''."""
    if is_ragged(data_key):
        return np.empty((0, *data_key["shape"][1:]), numpy_dtype(data_key))
    if not has_node(data_key):
        return None
    dtype = numpy_dtype(data_key)
    assert dtype is not None, "a storable data key has a dtype"
    return np.full(data_key["shape"], np.nan if dtype.kind in "fc" else dtype.type(), dtype)


def json_ready(value: Any, depth: int = 0) -> Any:
    """Return metadata as JSON can store them; numbers that JSON would change become text."""
    if depth > JSON_DEPTH_LIMIT and isinstance(value, (Mapping, list, tuple)):
        return text_of(value)
    if isinstance(value, Mapping):
        return {encodable(str(key)): json_ready(each, depth + 1) for key, each in value.items()}
    if isinstance(value, np.ndarray):
        as_text = value.dtype.kind in "cmM" or value.dtype.itemsize > 8 and value.dtype.kind == "f"
        return json_ready((value.astype(str) if as_text else value).tolist(), depth)
    if isinstance(value, (list, tuple)):
        return [json_ready(each, depth + 1) for each in value]
    if isinstance(value, bytes):
        return [*value]
    if isinstance(value, str):
        return encodable(value)
    return str(value) if isinstance(value, (int, float)) and _is_beyond_json(value) else value


def _is_beyond_json(value: float) -> bool:
    """Check for a number that bluesky-tiled-plugins' `truncate_json_overflow` would change.

    Importing that function takes seconds, also for readers that never ask Tiled.
    """
    return (value % 1 == 0 and abs(value) >= 2**53) or abs(value) > 1.7976e308


def _safe_name(key: str) -> str:
    cleaned = re.sub(r"\W", "_", key, flags=re.ASCII)[: _NAME_BYTES - 13]
    return f"key_{cleaned}_{zlib.crc32(key.encode()):08x}"


def _is_column(key: str) -> bool:
    return bool(_COLUMN.fullmatch(key)) and len(key.encode()) <= _NAME_BYTES


def _fit_integer(value: int, data_key: Mapping[str, Any]) -> int | np.uint64:
    dtype = numpy_dtype(data_key)
    is_unsigned = dtype is not None and dtype.kind == "u" and dtype.itemsize == 8
    low, high = (0, 2**64) if is_unsigned else (-(2**63), 2**63)
    if not low <= value < high:
        raise ValueError(f"{value} is not in the range of {dtype}")
    return np.uint64(value) if is_unsigned else value  # pyarrow would take an int for signed


def _fit_array(value: Any, data_key: Mapping[str, Any]) -> Any:
    shape, dtype = tuple(data_key["shape"]), numpy_dtype(data_key)
    assert dtype is not None, "a storable data key has a dtype"
    if value is None:
        if has_node(data_key) or is_ragged(data_key):
            raise ValueError("an array has no place for None")
        return None
    converted = _converted(as_array(value), dtype)  # ValueError if it is ragged
    if is_ragged(data_key):
        if converted.size == 0:
            converted = converted.reshape((0, *shape[1:]))
        if converted.ndim != len(shape) or converted.shape[1:] != shape[1:]:
            raise ValueError(f"an array of shape {converted.shape} is not one of shape {shape}")
        return converted
    if not has_node(data_key):
        if converted.ndim == 0 and not shape:
            converted = converted.reshape(1)
        if converted.ndim != max(1, len(shape)):
            raise ValueError(f"a column cannot store an array of {converted.shape} {dtype}")
        return _column_cell(converted)
    converted = filled_up(converted, shape)
    if converted.shape != shape:
        raise ValueError(f"an array of shape {converted.shape} is not one of shape {shape}")
    return converted


def _converted(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Convert an array, unless that would change its values, but for the digits of floats.

    Raises:
        ValueError: it would.
    """
    if array.size == 0:
        return np.empty(array.shape, dtype)
    if array.dtype.kind == "U" and dtype.kind == "S":
        array = np.char.encode(array, "utf-8")  # ophyd-async describes lists of strings so
    numbers = set("biufc") if dtype.kind == "c" else set("biuf")
    if not ({array.dtype.kind, dtype.kind} <= numbers or array.dtype.kind == dtype.kind):
        raise ValueError(f"an array of {array.dtype} is not an array of {dtype}")
    converted = with_dtype(array, dtype)
    if converted is None:
        raise ValueError(f"an array of {array.dtype} is not an array of {dtype}")
    return converted


def _column_cell(array: np.ndarray) -> Any:
    """Return nested lists, the innermost of which is an array if pyarrow could mistake its type."""
    if array.dtype.kind != "u" or array.ndim == 0:
        return array.tolist()
    return array if array.ndim == 1 else [_column_cell(row) for row in array]
