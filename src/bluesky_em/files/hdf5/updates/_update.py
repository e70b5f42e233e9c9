"""One update, and the checks that it fits its declaration."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from enum import Enum

import numpy as np

from bluesky_em.errors import FrameMismatch
from bluesky_em.update_modes import UpdateDeclaration, UpdateMode


class Held(Enum):
    """The state of an update in its file, according to flushed bytes."""

    ABSENT = "absent"
    """It is not there, or not completely: it has to be written (again)."""
    INTACT = "intact"
    """Its bytes are there and match its checksum."""
    SUPERSEDED = "superseded"
    """It was there; a newer update has overwritten or replaced it."""
    SUMMED = "summed"
    """It is part of the sum, whose bytes match the checksum of the sum."""


@dataclass(frozen=True, kw_only=True)
class Update:
    """Description of an update, without its values."""

    number: int
    """The stream's index, from 0. Where two updates overlap, the higher number is the newer."""
    shape: tuple[int, ...]
    checksum: int
    """CRC-32 of its bytes in C order."""
    time: float
    """s since the epoch"""
    index: tuple[int, ...] | None = None
    """Index of its first element, one integer per axis of the array; -1: behind the existing
    elements. None: behind the last one on axis 0. Mode `add_slice` only."""

    def __post_init__(self) -> None:
        """Check the number.

        Raises:
            ValueError: it is below 0.
        """
        if self.number < 0:
            raise ValueError(f"an update has the number {self.number}; they count from 0")

    @classmethod
    def of(
        cls, number: int, values: np.ndarray, *, time: float, index: tuple[int, ...] | None = None
    ) -> Update:
        """Describe `values`."""
        checksum = zlib.crc32(np.ascontiguousarray(values).tobytes())
        return cls(number=number, shape=values.shape, checksum=checksum, time=time, index=index)


def fit(declared: UpdateDeclaration, update: Update, values: np.ndarray) -> np.ndarray:
    """Return `values` with as many axes as the array; new axes are in front.

    Raises:
        FrameMismatch: they do not fit the declaration. They are never cut.
    """
    if values.dtype != np.dtype(declared.dtype):
        raise _mismatch(update, f"dtype {values.dtype.str}", f"updates of {declared.dtype}")
    if values.shape != update.shape:
        raise _mismatch(update, f"shape {values.shape}", f"{update.shape}, by the update itself")
    if values.ndim > len(declared.shape):
        raise _mismatch(update, f"shape {values.shape}", f"at most {_words(declared)}")
    block = values.reshape((1,) * (len(declared.shape) - values.ndim) + values.shape)
    is_exact = declared.mode is not UpdateMode.ADD_SLICE
    for axis, (size, limit) in enumerate(zip(block.shape, declared.shape, strict=True)):
        if limit is not None and (size > limit or (size < limit and is_exact)):
            given = f"shape {block.shape}, which is {size} on axis {axis}"
            raise _mismatch(update, given, _words(declared))
    return block


def place(declared: UpdateDeclaration, update: Update) -> tuple[int, ...]:
    """Return the index of an update, -1 where it goes behind the existing elements.

    Raises:
        FrameMismatch: it is not an index into the array.
    """
    axes = len(declared.shape)
    index = update.index if update.index is not None else (-1, *[0] * (axes - 1))
    if len(index) != axes or min(index) < -1:
        right = f"{axes} integers from -1 on, one for each axis of {_words(declared)}"
        raise _mismatch(update, f"index {index}", right)
    return tuple(index)


def refuse_index(update: Update) -> None:
    """Raise if an update has an index, in a mode without indices.

    Raises:
        FrameMismatch: it has one.
    """
    if update.index is not None:
        raise _mismatch(update, f"index {update.index}", "a mode without indices: leave it out")


def check_bounds(declared: UpdateDeclaration, update: Update, end: np.ndarray) -> None:
    """Check that an update stays inside the declared shape.

    Raises:
        FrameMismatch: it does not.
    """
    for axis, limit in enumerate(declared.shape):
        if limit is not None and end[axis] > limit:
            reach = f"an end at {end[axis]} on axis {axis}"
            raise _mismatch(update, reach, f"{_words(declared)}; nothing is cut")


def _words(declared: UpdateDeclaration) -> str:
    sizes = ["any" if size is None else str(size) for size in declared.shape]
    return f"mode `{declared.mode.value}` with shape ({', '.join(sizes)})"


def _mismatch(update: Update, given: str, declared: str) -> FrameMismatch:
    return FrameMismatch(f"update {update.number} has {given}, but was declared: {declared}")
