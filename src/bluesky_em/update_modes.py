"""Declaration of how a stream's updates become one array; sent once, before the first update."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Literal

import numpy as np

_NUMBER_KINDS = "biufc"  # numpy kinds that are numbers
_SUM_DTYPES = {"b": "<i8", "i": "<i8", "u": "<i8", "f": "<f8", "c": "<c16"}


class UpdateMode(StrEnum):
    """The way in which an update changes the array.

    Frames without a declared mode are rows of their array (BEC's mode `add`).
    """

    ADD_SLICE = "add_slice"
    """It is written at its index."""
    REPLACE = "replace"
    """It replaces the update before it."""
    ACCUMULATE = "accumulate"
    """It is added to the sum of the updates before it."""


@dataclass(frozen=True, kw_only=True)
class UpdateDeclaration:
    """Mode, shape and dtype of a stream's updates.

    >>> plain = {"mode": "replace", "shape": [2048], "dtype": "<f4"}
    >>> UpdateDeclaration.load(plain).keep_versions
    1
    """

    mode: UpdateMode
    shape: tuple[int | None, ...]
    """The largest shape of the whole array, e.g. `(None, 2048)`; None: no limit. Axis 0 of mode
    `add_slice`, and each axis without a limit, grow from 0."""
    dtype: str
    """Of every update, as numpy string, e.g. `<f4`."""
    keep_versions: int | Literal["all"] = 1
    """Mode `replace` only: how many of the newest values stay readable."""

    def __post_init__(self) -> None:
        """Check that the fields fit each other.

        Raises:
            ValueError: they do not; the message says what would be right.
        """
        self._check_shape()
        self._check_dtype()
        keep = self.keep_versions
        if keep != "all" and (not _is_count(keep) or keep < 1):
            raise ValueError(_wrong("keep_versions", keep, 'give a number from 1 on, or "all"'))
        if self.mode is not UpdateMode.REPLACE and keep != 1:
            raise ValueError(_wrong("keep_versions", keep, "leave it out: it is for `replace`"))

    @classmethod
    def load(cls, plain: Mapping[str, Any]) -> UpdateDeclaration:
        """Create a declaration from the dict in the parameters of a stream resource.

        Raises:
            ValueError: the dict is wrong; the message says what would be right.
        """
        known = [field.name for field in fields(cls)]
        if unknown := sorted(plain.keys() - set(known)):
            raise ValueError(f"updates are declared with {unknown}; there are only {known}")
        if missing := [name for name in ("mode", "shape", "dtype") if name not in plain]:
            raise ValueError(f"updates are declared without {missing}: {dict(plain)}")
        shape = plain["shape"]
        if not isinstance(shape, (list, tuple)):
            raise ValueError(_wrong("shape", shape, "give a list such as [null, 2048]"))
        return cls(
            mode=_mode(plain["mode"]),
            shape=tuple(shape),
            dtype=plain["dtype"],
            keep_versions=plain.get("keep_versions", 1),
        )

    def dump(self) -> dict[str, Any]:
        """Return a dict, ready for JSON, from which `load` creates an equal declaration."""
        plain: dict[str, Any] = {
            "mode": self.mode.value,
            "shape": list(self.shape),
            "dtype": self.dtype,
        }
        if self.mode is UpdateMode.REPLACE:
            plain["keep_versions"] = self.keep_versions
        return plain

    @property
    def sum_dtype(self) -> np.dtype:
        """Dtype of the sum in mode `accumulate`: int64, float64 or complex128."""
        return np.dtype(_SUM_DTYPES[np.dtype(self.dtype).kind])

    @property
    def fill(self) -> float:
        """Value of an element that was never written: NaN, or 0 for integers."""
        return np.nan if np.dtype(self.dtype).kind in "fc" else 0

    def _check_shape(self) -> None:
        shape = self.shape
        if not shape or not all(size is None or (_is_count(size) and size > 0) for size in shape):
            right = "give positive integers, null where there is no limit, and [1] for a scalar"
            raise ValueError(_wrong("shape", list(shape), right))
        if self.mode is UpdateMode.ACCUMULATE and None in shape:
            raise ValueError(_wrong("shape", list(shape), "a sum needs all its sizes"))

    def _check_dtype(self) -> None:
        try:
            dtype = np.dtype(self.dtype)
        except TypeError:
            dtype = None
        if not isinstance(self.dtype, str) or dtype is None or dtype.kind not in _NUMBER_KINDS:
            right = "give the numpy string of a number, such as '<f4' or '<u2'"
            raise ValueError(_wrong("dtype", self.dtype, right))
        if self.mode is UpdateMode.ACCUMULATE and dtype.kind in "iu" and dtype.itemsize > 4:
            right = "their sum could overflow: give integers of 4 bytes, or '<f8'"
            raise ValueError(_wrong("dtype", self.dtype, right))


def _wrong(name: str, value: Any, right: str) -> str:
    return f"updates are declared with {value!r} as {name!r}: {right}"


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _mode(value: Any) -> UpdateMode:
    try:
        return UpdateMode(value)
    except ValueError:
        right = (
            f"give one of {', '.join(mode.value for mode in UpdateMode)}, or leave 'update' out: "
            "without it frames are rows of their array"
        )
        raise ValueError(_wrong("mode", value, right)) from None
