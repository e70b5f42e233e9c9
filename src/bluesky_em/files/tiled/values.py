"""Conversion of document values to the columns, types and JSON that Tiled can store.

Pure functions. The caller leaves out what cannot be converted and records it in the run's notes;
the journal keeps the original.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from bluesky_tiled_plugins.utils import truncate_json_overflow
from bluesky_tiled_plugins.writing.tiled_writer import MAX_ARRAY_SIZE

_COLUMN = re.compile(
    r"(?!(?i:ts_|internal_later_\d+$))[A-Za-z](?!.*(--|/\*|\*/))[^'\"`;\\%()=+\x00-\x1f]*"
)
"""Names that every database accepts and that are not names of time stamp columns."""
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


def fit(value: Any, data_key: Mapping[str, Any]) -> Any:
    """Return a value in the type that its data key promises; None stays None.

    Raises:
        ValueError: the value has another type and the conversion would change it.
    """
    dtype = data_key.get("dtype")
    if dtype == "array":
        return _fit_array(value, data_key)
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    is_number = isinstance(value, (int, float))
    if value is None or dtype not in ("number", "integer", "boolean", "string"):
        return value
    if dtype == "number" and is_number:
        return float(value)
    if dtype == "integer" and is_number and -(2**63) <= value < 2**63 and value == int(value):
        return int(value)
    if dtype == "boolean" and is_number and value in (0, 1):
        return bool(value)
    if dtype == "string" and (is_number or isinstance(value, str)):
        return str(value)
    raise ValueError(f"{value!r} is not of type {dtype}")


def blank(data_key: Mapping[str, Any]) -> Any:
    """Return the placeholder of a value that was left out: None, or an array of NaN, 0 or ''."""
    dtype = numpy_dtype(data_key)
    if data_key.get("dtype") != "array" or dtype is None or not _has_node(data_key, dtype):
        return None
    return np.full(data_key["shape"], np.nan if dtype.kind == "f" else dtype.type(), dtype)


def numpy_dtype(data_key: Mapping[str, Any]) -> np.dtype | None:
    """Return the dtype of an array as the run writer reads it; None for structured ones."""
    dtype = data_key.get("dtype_numpy") or "<f8"
    try:
        return np.dtype(dtype) if isinstance(dtype, str) else None
    except TypeError:
        return None


def has_node(data_key: Mapping[str, Any]) -> bool:
    """Return whether the values of an array key are an array of their own, not a column."""
    dtype = numpy_dtype(data_key)
    return dtype is not None and _has_node(data_key, dtype)


def json_ready(value: Any) -> Any:
    """Return metadata as JSON can store them; numbers that JSON would change become text."""
    if isinstance(value, Mapping):
        return {str(key): json_ready(each) for key, each in value.items()}
    if isinstance(value, np.ndarray):
        return json_ready((value.astype(str) if value.dtype.kind in "cmM" else value).tolist())
    if isinstance(value, (list, tuple)):
        return [json_ready(each) for each in value]
    if isinstance(value, bytes):
        return [*value]
    if (
        isinstance(value, (int, float))
        and value == value
        and truncate_json_overflow(value) != value
    ):
        return str(value)
    return value


def _safe_name(key: str) -> str:
    cleaned = re.sub(r"\W", "_", key, flags=re.ASCII)[: _NAME_BYTES - 13]
    return f"key_{cleaned}_{zlib.crc32(key.encode()):08x}"


def _is_column(key: str) -> bool:
    return bool(_COLUMN.fullmatch(key)) and len(key.encode()) <= _NAME_BYTES


def _has_node(data_key: Mapping[str, Any], dtype: np.dtype) -> bool:
    """Return whether an array has its own node, by the run writer's rule."""
    shape = data_key.get("shape") or ()
    return None not in shape and (math.prod(shape) > MAX_ARRAY_SIZE or dtype.kind in "USO")


def _fit_array(value: Any, data_key: Mapping[str, Any]) -> Any:
    shape, dtype = tuple(data_key.get("shape") or ()), numpy_dtype(data_key)
    if dtype is None or None in shape or (value is None and not _has_node(data_key, dtype)):
        return value
    array = np.asarray(value)  # ValueError if it is ragged
    if array.dtype.kind == "U" and dtype.kind == "S":
        array = np.char.encode(array, "utf-8")  # ophyd-async describes lists of strings so
    if not ({array.dtype.kind, dtype.kind} <= set("biuf") or array.dtype.kind == dtype.kind):
        raise ValueError(f"an array of {array.dtype} is not an array of {dtype}")
    with np.errstate(invalid="ignore", over="ignore"):
        converted = array.astype(dtype)
    kept = (np.isfinite(converted), np.isfinite(array)) if dtype.kind == "f" else (converted, array)
    if not np.array_equal(*kept):
        raise ValueError(f"an array of {array.dtype} is not an array of {dtype}")
    if not _has_node(data_key, dtype):
        if converted.ndim != max(1, len(shape)) or dtype.kind not in "biuf":
            raise ValueError(f"a column cannot store an array of {converted.shape} {dtype}")
        return converted.tolist()
    if dtype.kind == "f" and converted.ndim == len(shape) == 1:
        missing = max(0, math.prod(shape) - len(converted))
        converted = np.pad(converted, (0, missing), constant_values=np.nan)
    if converted.shape != shape:
        raise ValueError(f"an array of shape {converted.shape} is not one of shape {shape}")
    return converted
