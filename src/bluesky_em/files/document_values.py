"""Values of documents, converted to arrays and to text."""

from __future__ import annotations

import json
from collections.abc import Sequence
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
    if array.dtype.kind in "biuf":
        return array
    return np.asarray([v if isinstance(v, str) else to_json(v) for v in values], dtype=object)


def to_json(value: Any) -> str:
    """Return a document, or a part of one, as ASCII JSON; NaN is `NaN`, as in Python.

    >>> to_json({"profile": np.arange(3)})
    '{"profile": [0, 1, 2]}'
    """
    return json.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return str(value)
