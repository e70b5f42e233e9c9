"""Serialise one record of a journal: a document's name, and the document, as msgpack.

Before each record is the CRC-32 of its bytes, an integer of msgpack; journals of earlier versions
have none. Between records there may be nil, where a repair has blanked damaged bytes.

numpy values and NaN survive; values of other kinds are kept in a readable form (`plain_values`).
Nothing in a record can execute when it is read.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import msgpack
import numpy as np

from bluesky_em.documents import Document

from .plain_values import Note, is_plain_array, plain, silent, simplify

_ARRAY = 1  # msgpack extension type: [dtype, shape, bytes] of a numpy array


def pack(name: str, document: Document, note: Note = silent) -> bytes:
    """Serialise one record and its checksum. A value that is no plain data is kept readable.

    Args:
        name: kind of the document.
        document: a mapping that may hold anything.
        note: called for each value that is kept in another form.

    Raises:
        TypeError: this is no mapping with a name.
    """
    if not (isinstance(name, str) and isinstance(document, Mapping)):
        raise TypeError(
            f"a document is a mapping with a name, not {type(document).__name__} {document!r} "
            f"named {name!r}"
        )
    try:
        record = _packed([name, document], note)
    except Exception:  # too deep, containing itself, not UTF-8, or what a foreign type raises
        record = _packed(simplify([name, document], note), note)
    return msgpack.packb(zlib.crc32(record)) + record


def _packed(record: Any, note: Note) -> Any:
    return msgpack.packb(record, default=partial(_to_plain, note=note), use_bin_type=True)


def records(data: bytes, start: int = 0) -> Iterator[tuple[Any, int]]:
    """Yield each complete record from `start` on, and the position behind it.

    Raises:
        Exception: bytes are damaged, which can raise anything in a decoder.
    """
    file = io.BytesIO(data)
    file.seek(start)
    unpacker = _unpacker(file)
    while True:
        try:
            checksum, begin = unpacker.unpack(), start + unpacker.tell()
            if checksum is None:
                continue
            if type(checksum) is int:
                record, end = unpacker.unpack(), start + unpacker.tell()
            else:  # of an earlier version
                checksum, record, end = None, checksum, begin
        except msgpack.OutOfData:
            return
        if not _is_record(record):
            raise ValueError(f"{str(record)[:80]!r} is not a document")
        if checksum is not None and zlib.crc32(data[begin:end]) != checksum:
            raise ValueError("a document has not its checksum")
        yield record, end


def _is_record(record: Any) -> bool:
    return (
        isinstance(record, list)
        and len(record) == 2
        and isinstance(record[0], str)
        and isinstance(record[1], dict)
    )


def _unpacker(file: io.BytesIO) -> Any:
    return msgpack.Unpacker(
        file,
        ext_hook=_from_extension,
        object_pairs_hook=_to_dict,
        raw=False,
        strict_map_key=False,
        max_buffer_size=0,
    )


def _to_dict(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    try:
        return dict(pairs)
    except TypeError:  # a key that was a tuple has become a list, one that was a mapping a dict
        return {
            str(key) if isinstance(key, (list, dict, np.ndarray)) else key: value
            for key, value in pairs
        }


def _to_plain(value: Any, note: Note) -> Any:
    if is_plain_array(value):
        fields = [value.dtype.str, list(value.shape), np.ascontiguousarray(value).tobytes()]
        return msgpack.ExtType(_ARRAY, msgpack.packb(fields, use_bin_type=True))
    return plain(value, note)


def _from_extension(code: int, data: bytes) -> Any:
    if code != _ARRAY:
        raise ValueError(f"unknown msgpack extension {code} in a journal: written by a newer one?")
    dtype, shape, raw = msgpack.unpackb(data, raw=False)
    return np.frombuffer(raw, dtype=dtype).reshape(shape).copy()
