"""Convert values of any kind to those that a record can hold: plain data and numpy arrays.

Nothing is refused, since a plan must not end because of what is in a document. A value that is
neither plain data nor numpy becomes a readable form of it, and in the end its `repr`.
"""

from __future__ import annotations

import dataclasses
import os
import reprlib
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any
from uuid import UUID

import numpy as np

Note = Callable[[type, str], None]
"""Called with the type of a value that is not kept as it is, and the form in which it is kept."""

SCALARS = "biufSU"  # dtype kinds of numpy scalars that have a Python type
ARRAYS = SCALARS + "cmM"  # dtype kinds of arrays that are nothing but their bytes
DEPTH_LIMIT = 100  # levels of containers in containers; what is deeper is kept as text
ITEMS_LIMIT = 1_000_000  # items of a container that is not a list, e.g. a range
TEXT_LIMIT = 10_000  # characters of a `repr`

_Form = tuple[Any, str]
"""A converted value, which may hold more values to convert, and the words for its form."""


def silent(kind: type, form: str) -> None:
    """Take no note."""


def plain(value: Any, note: Note = silent) -> Any:
    """Return one value in a form that is plain, or holds values that are simpler than it."""
    if isinstance(value, np.generic) and value.dtype.kind in SCALARS:
        item = value.item()
        if not isinstance(item, np.generic):  # as a longdouble stays one
            return item
    if isinstance(value, Mapping):
        return dict(value)
    try:
        form, words = _form(value)
    except Exception:  # whatever a foreign type raises: its text is left
        form, words = text_of(value), "text"
    note(type(value), words)
    return form


def simplify(value: Any, note: Note = silent) -> Any:
    """Return plain data for a value of any depth, also if it contains itself or odd text."""
    return _simplify(value, note, ())


def is_plain_array(value: Any) -> bool:
    """Check that an array is nothing but its dtype, shape and bytes; a masked one is more."""
    return (
        isinstance(value, np.ndarray)
        and value.dtype.kind in ARRAYS
        and not isinstance(value, np.ma.MaskedArray)
    )


def text_of(value: Any) -> str:
    """Return the `repr` of a value, or its type where that fails."""
    try:
        text = repr(value)
    except Exception:  # also a RecursionError
        text = f"<{type(value).__name__}>"
    if len(text) > TEXT_LIMIT:
        text = f"{text[:TEXT_LIMIT]}..."
    return encodable(text)


def encodable(text: str) -> str:
    r"""Return text that UTF-8 can encode: a lone surrogate becomes its escape.

    >>> encodable("a\ud800")
    'a\\ud800'
    """
    return text.encode("utf-8", "backslashreplace").decode()


def _simplify(value: Any, note: Note, parents: tuple[int, ...]) -> Any:
    if isinstance(value, str):
        return encodable(value)
    if value is None or isinstance(value, (bool, float, bytes, bytearray)) or is_plain_array(value):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return value
    if id(value) in parents or len(parents) >= DEPTH_LIMIT:
        note(type(value), "text, since it is too deep or contains itself")
        return reprlib.repr(value)
    parents = (*parents, id(value))
    if isinstance(value, Mapping):
        return {_key(key, note): _simplify(each, note, parents) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_simplify(each, note, parents) for each in value]
    return _simplify(plain(value, note), note, parents)


def _key(key: Any, note: Note) -> Any:
    converted = simplify(key, note)
    return converted if isinstance(converted, (str, int, float, bytes, type(None))) else str(key)


def _form(value: Any) -> _Form:
    if isinstance(value, Enum):
        return value.value, "its value"
    if isinstance(value, (date, time)):  # a datetime is a date
        return value.isoformat(), "ISO text"
    if isinstance(value, timedelta):
        return value.total_seconds(), "seconds"
    if isinstance(value, (UUID, Decimal, Fraction)):
        return str(value), "text"
    if isinstance(value, int):
        return str(value), "text, since it has more than 64 bits"
    if isinstance(value, complex):
        return [value.real, value.imag], "[real, imaginary]"
    if isinstance(value, os.PathLike):
        return encodable(os.fsdecode(value)), "text"
    if isinstance(value, (np.ndarray, np.generic)):
        return _numpy_form(value, value.dtype.kind)
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value), "bytes"
    fields = _fields(value)
    if fields is not None:
        return {name: getattr(value, name) for name in fields}, "a mapping of its fields"
    if isinstance(value, (set, frozenset)):
        return _sorted(value), "a list"
    if isinstance(value, Collection) and not isinstance(value, type) and len(value) <= ITEMS_LIMIT:
        return list(value), "a list"
    return text_of(value), "text"


def _numpy_form(value: Any, kind: str) -> _Form:
    if value is np.ma.masked:
        return None, "None"
    if kind == "V" and value.dtype.names:
        return {name: value[name] for name in value.dtype.names}, "a mapping of its fields"
    if isinstance(value, np.generic) and kind in "mM":
        return str(value), "ISO text"
    if isinstance(value, np.generic) and kind == "c":
        return [float(value.real), float(value.imag)], "[real, imaginary]"
    if isinstance(value, np.generic) and kind == "f":
        return (float(value), "a float") if float(value) == value else (str(value), "text")
    if kind == "V":
        return value.tobytes(), "bytes"
    if isinstance(value, np.ma.MaskedArray):
        return value.tolist(), "a list, with None where it is masked"
    return value.tolist(), "a list"


def _fields(value: Any) -> Iterable[str] | None:
    """Return the fields of a dataclass, attrs class or pydantic model, e.g. of a `Table`."""
    if isinstance(value, type):
        return None
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value)]
    if hasattr(value, "__attrs_attrs__"):
        return [field.name for field in type(value).__attrs_attrs__]
    fields = getattr(type(value), "model_fields", None)
    return [*fields, *(value.model_extra or ())] if isinstance(fields, Mapping) else None


def _sorted(items: Collection[Any]) -> list[Any]:
    try:
        return sorted(items)
    except TypeError:  # of several types
        return sorted(items, key=lambda item: (type(item).__name__, text_of(item)))
