"""What Tiled can hold of a document: names of columns, values of the promised type, JSON.

Pure functions. What does not fit is left out by the caller, who says so in the run's notes; the
journal has it as it was.
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

_COLUMN = re.compile(r"(?!(?i:ts_))[A-Za-z](?!.*(--|/\*|\*/))[^'\"`;\\%()=+\x00-\x1f]*")
"""Names that every database takes, and that are no time stamps'."""
_LONGEST = 56  # bytes; a database takes 63, and a time stamp's column begins with `ts_`
_RESERVED = {"time", "seq_num"}


def columns(keys: Iterable[str]) -> dict[str, str]:
    """Give each data key the name of its column: its own, wherever a database can have that.

    Names differ also where case does not count, and from those of the columns beside them.
    """
    names: dict[str, str] = {}
    taken = set(_RESERVED)
    for key in sorted(keys, key=lambda key: (not _is_column(key) or key in _RESERVED, key)):
        name = key if _is_column(key) else _harmless(key)
        while name.lower() in taken:
            name = f"{name}_"
        taken.add(name.lower())
        names[key] = name
    return names


def fit(value: Any, data_key: Mapping[str, Any]) -> Any:
    """Give a value the type that its data key promises; None stays None.

    Raises:
        ValueError: it is of another type, and would not be the same any more.
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
    raise ValueError(f"{value!r} is no {dtype}")


def blank(data_key: Mapping[str, Any]) -> Any:
    """Give what stands for a value that did not fit: nothing, or an array of nothing."""
    dtype = numpy_dtype(data_key)
    if data_key.get("dtype") != "array" or dtype is None or not _has_node(data_key, dtype):
        return None
    return np.full(data_key["shape"], np.nan if dtype.kind == "f" else dtype.type(), dtype)


def numpy_dtype(data_key: Mapping[str, Any]) -> np.dtype | None:
    """Give the dtype of an array as the run writer takes it; None for structured ones."""
    dtype = data_key.get("dtype_numpy") or "<f8"
    try:
        return np.dtype(dtype) if isinstance(dtype, str) else None
    except TypeError:
        return None


def json_ready(value: Any) -> Any:
    """Give metadata as JSON can hold them: text instead of a number that would become another."""
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


def _harmless(key: str) -> str:
    cleaned = re.sub(r"\W", "_", key, flags=re.ASCII)[: _LONGEST - 13]
    return f"key_{cleaned}_{zlib.crc32(key.encode()):08x}"


def _is_column(key: str) -> bool:
    return bool(_COLUMN.fullmatch(key)) and len(key.encode()) <= _LONGEST


def _has_node(data_key: Mapping[str, Any], dtype: np.dtype) -> bool:
    """Tell whether an array has a node of its own, as the run writer decides it."""
    shape = data_key.get("shape") or ()
    return None not in shape and (math.prod(shape) > MAX_ARRAY_SIZE or dtype.kind in "USO")


def _fit_array(value: Any, data_key: Mapping[str, Any]) -> Any:
    shape, dtype = tuple(data_key.get("shape") or ()), numpy_dtype(data_key)
    if dtype is None or None in shape or (value is None and not _has_node(data_key, dtype)):
        return value
    array = np.asarray(value)  # ValueError: it is ragged
    if array.dtype.kind == "U" and dtype.kind == "S":
        array = np.char.encode(array, "utf-8")  # what ophyd-async promises of lists of strings
    if not ({array.dtype.kind, dtype.kind} <= set("biuf") or array.dtype.kind == dtype.kind):
        raise ValueError(f"an array of {array.dtype} is none of {dtype}")
    with np.errstate(invalid="ignore", over="ignore"):
        converted = array.astype(dtype)
    kept = (np.isfinite(converted), np.isfinite(array)) if dtype.kind == "f" else (converted, array)
    if not np.array_equal(*kept):
        raise ValueError(f"an array of {array.dtype} is none of {dtype}")
    if not _has_node(data_key, dtype):
        if converted.ndim != max(1, len(shape)) or dtype.kind not in "biuf":
            raise ValueError(f"a table has no place for {converted.shape} of {dtype}")
        return converted.tolist()
    if dtype.kind == "f" and converted.ndim == len(shape) == 1:
        lacks = max(0, math.prod(shape) - len(converted))
        converted = np.pad(converted, (0, lacks), constant_values=np.nan)
    if converted.shape != shape:
        raise ValueError(f"an array of shape {converted.shape} is none of {shape}")
    return converted
