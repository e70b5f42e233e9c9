"""What a stream declares of its updates, once, before the first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Literal, TypeVar

import numpy as np

_Choice = TypeVar("_Choice", bound=StrEnum)
_KINDS = "biufc"  # numpy kinds that are numbers
_SUMS = {"b": "<i8", "i": "<i8", "u": "<i8", "f": "<f8", "c": "<c16"}


class UpdateMode(StrEnum):
    """What an update does to the array that is there."""

    ADD = "add"
    """It goes behind the last, on axis 0."""
    ADD_SLICE = "add_slice"
    """It goes where its index says."""
    REPLACE = "replace"
    """It takes the place of the one before."""
    ACCUMULATE = "accumulate"
    """It is added up with those before."""


class Rows(StrEnum):
    """How long the rows of mode `add` are."""

    EQUAL = "equal"
    """All as declared."""
    PADDED = "padded"
    """As declared or shorter; the rest holds the fill value."""
    RAGGED = "ragged"
    """Each its own length on axis 1."""


@dataclass(frozen=True, kw_only=True)
class UpdateDeclaration:
    """How a stream's updates become one array.

    >>> declared = UpdateDeclaration.load({"mode": "add", "shape": [None, 2048], "dtype": "<f4"})
    >>> declared.shape, declared.rows.value
    ((None, 2048), 'equal')
    """

    mode: UpdateMode
    shape: tuple[int | None, ...]
    """The most the whole array can be, e.g. `(None, 2048)`: it never has more indices on an axis;
    None: no limit. On axis 0 (modes `add`, `add_slice`) and where it is None it grows from 0."""
    dtype: str
    """Of every update, as numpy string, e.g. `<f4`."""
    rows: Rows = Rows.EQUAL
    """Mode `add` only."""
    keep_versions: int | Literal["all"] = 1
    """Mode `replace` only: how many of the newest values stay readable."""

    def __post_init__(self) -> None:
        """Check that it makes sense.

        Raises:
            ValueError: it does not; the message says what would.
        """
        self._check_shape()
        self._check_dtype()
        if self.mode is not UpdateMode.ADD and self.rows is not Rows.EQUAL:
            raise ValueError(_wrong("rows", self.rows.value, "leave it out: only `add` has rows"))
        keep = self.keep_versions
        if keep != "all" and (not _is_count(keep) or keep < 1):
            raise ValueError(_wrong("keep_versions", keep, 'give a number from 1 on, or "all"'))
        if self.mode is not UpdateMode.REPLACE and keep != 1:
            raise ValueError(_wrong("keep_versions", keep, "leave it out: it is for `replace`"))

    @classmethod
    def load(cls, plain: Mapping[str, Any]) -> UpdateDeclaration:
        """Make one from the plain dict that a stream resource's parameters carry.

        Raises:
            ValueError: it is wrong; the message says what would be right.
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
            mode=_choice(UpdateMode, "mode", plain["mode"]),
            shape=tuple(shape),
            dtype=plain["dtype"],
            rows=_choice(Rows, "rows", plain.get("rows", Rows.EQUAL)),
            keep_versions=plain.get("keep_versions", 1),
        )

    def dump(self) -> dict[str, Any]:
        """Give the plain dict, ready for JSON, of which `load` makes an equal one."""
        plain: dict[str, Any] = {
            "mode": self.mode.value,
            "shape": list(self.shape),
            "dtype": self.dtype,
        }
        if self.mode is UpdateMode.ADD:
            plain["rows"] = self.rows.value
        if self.mode is UpdateMode.REPLACE:
            plain["keep_versions"] = self.keep_versions
        return plain

    @property
    def sum_dtype(self) -> np.dtype:
        """Of mode `accumulate`'s sum: int64, float64 or complex128."""
        return np.dtype(_SUMS[np.dtype(self.dtype).kind])

    @property
    def fill(self) -> float:
        """What an element holds that nothing was written to: NaN, or 0 for integers."""
        return np.nan if np.dtype(self.dtype).kind in "fc" else 0

    def _check_shape(self) -> None:
        shape = self.shape
        if not shape or not all(size is None or (_is_count(size) and size > 0) for size in shape):
            right = "give positive integers, null where there is no limit, and [1] for a scalar"
            raise ValueError(_wrong("shape", list(shape), right))
        if self.mode is UpdateMode.ACCUMULATE and None in shape:
            raise ValueError(_wrong("shape", list(shape), "a sum needs all its sizes"))
        if self.mode is not UpdateMode.ADD:
            return
        if self.rows is not Rows.EQUAL and len(shape) < 2:
            right = f"{self.rows.value} rows need two axes or more, e.g. [null, 2048]"
            raise ValueError(_wrong("shape", list(shape), right))
        if None in shape[2 if self.rows is Rows.RAGGED else 1 :]:
            right = (
                "only axis 0 is without limit, and axis 1 with rows of any length: declare "
                '"rows": "ragged", or the mode `add_slice`, whose axes all may grow'
            )
            raise ValueError(_wrong("shape", list(shape), right))

    def _check_dtype(self) -> None:
        try:
            dtype = np.dtype(self.dtype)
        except TypeError:
            dtype = None
        if not isinstance(self.dtype, str) or dtype is None or dtype.kind not in _KINDS:
            right = "give the numpy string of a number, such as '<f4' or '<u2'"
            raise ValueError(_wrong("dtype", self.dtype, right))
        if self.mode is UpdateMode.ACCUMULATE and dtype.kind in "iu" and dtype.itemsize > 4:
            right = "their sum could overflow: give integers of 4 bytes, or '<f8'"
            raise ValueError(_wrong("dtype", self.dtype, right))


def _wrong(name: str, value: Any, right: str) -> str:
    return f"updates are declared with {value!r} as {name!r}: {right}"


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _choice(kind: type[_Choice], name: str, value: Any) -> _Choice:
    try:
        return kind(value)
    except ValueError:
        right = f"give one of {', '.join(member.value for member in kind)}"
        raise ValueError(_wrong(name, value, right)) from None
