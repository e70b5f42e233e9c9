"""Serialise one record of a journal: a document's name, and the document, as msgpack.

numpy values and NaN survive; nothing in a record can execute when it is read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np

from bluesky_em.documents import Document

_ARRAY = 1  # msgpack extension type: [dtype, shape, bytes] of a numpy array
_SCALARS = "biufSU"  # dtype kinds of numpy scalars that have a Python type
_ARRAYS = _SCALARS + "cmM"  # dtype kinds of arrays that are nothing but their bytes


def pack(name: str, document: Document) -> bytes:
    """Serialise one record.

    Raises:
        TypeError: the document holds a value that is neither plain data nor numpy.
    """
    if not (isinstance(name, str) and isinstance(document, Mapping)):
        raise TypeError(
            f"a document is a mapping with a name, not {type(document).__name__} {document!r} "
            f"named {name!r}"
        )
    try:
        packed: Any = msgpack.packb([name, document], default=_to_plain, use_bin_type=True)
    except (TypeError, ValueError, OverflowError, BufferError) as exc:
        raise TypeError(f"this {name} document cannot be kept: {exc}") from exc
    return packed


def is_record(record: Any) -> bool:
    """Check whether a decoded value is a document's name and the document."""
    return (
        isinstance(record, list)
        and len(record) == 2
        and isinstance(record[0], str)
        and isinstance(record[1], dict)
    )


def unpacker_of_records() -> Any:
    """Return a msgpack unpacker that decodes records."""
    return msgpack.Unpacker(
        ext_hook=_from_extension,
        object_pairs_hook=_to_dict,
        raw=False,
        strict_map_key=False,
        max_buffer_size=0,
    )


def _to_dict(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    try:
        return dict(pairs)
    except TypeError:  # a key that was a tuple has become a list
        return {str(key) if isinstance(key, list) else key: value for key, value in pairs}


def _to_plain(value: Any) -> Any:
    if isinstance(value, np.generic) and value.dtype.kind in _SCALARS:
        return value.item()
    if _is_plain_array(value):
        fields = [value.dtype.str, list(value.shape), np.ascontiguousarray(value).tobytes()]
        return msgpack.ExtType(_ARRAY, msgpack.packb(fields, use_bin_type=True))
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return list(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, int):
        raise TypeError(f"an integer may have 64 bits, {value!r} has more; give it as a string")
    raise TypeError(
        f"a document may hold plain data and numpy arrays, not {type(value).__name__} {value!r}"
    )


def _is_plain_array(value: Any) -> bool:
    """Check that an array is nothing but its dtype, shape and bytes; a masked one is more."""
    return (
        isinstance(value, np.ndarray)
        and value.dtype.kind in _ARRAYS
        and not isinstance(value, np.ma.MaskedArray)
    )


def _from_extension(code: int, data: bytes) -> Any:
    if code != _ARRAY:
        raise ValueError(f"unknown msgpack extension {code} in a journal: written by a newer one?")
    dtype, shape, raw = msgpack.unpackb(data, raw=False)
    return np.frombuffer(raw, dtype=dtype).reshape(shape).copy()
