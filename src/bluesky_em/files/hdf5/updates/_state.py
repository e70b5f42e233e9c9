"""The state of a sum: which updates it has, and how to prove it."""

from __future__ import annotations

import zlib

import h5py
import numpy as np

from ._table import Row

STATES = "/entry/slots/states"
"""Path of the two slots' states."""
_DTYPE = np.dtype(
    [
        ("sequence", "<i8"),
        ("count", "<i8"),
        ("checksum", "<u4"),
        ("rows", "<u4"),
        ("seal", "<u4"),
    ]
)
"""sequence: the higher is the newer, from 1. count: the first so many rows of the table are in the
sum. checksum: CRC-32 of the sum's bytes. rows: CRC-32 of those rows. seal: CRC-32 of the state
with seal 0."""


def create_states(file: h5py.File) -> None:
    """Make the states of two empty slots; each has a chunk of its own."""
    file.create_dataset(STATES, shape=(2,), maxshape=(2,), chunks=(1,), dtype=_DTYPE)


def compose(sequence: int, total: np.ndarray, count: int, rows: int) -> Row:
    """Compose the sealed state of a sum of `count` updates, whose rows have the CRC-32 `rows`."""
    state: Row = np.zeros((), _DTYPE)[()]
    state["sequence"], state["count"], state["rows"] = sequence, count, rows
    state["checksum"] = zlib.crc32(total.tobytes())
    state["seal"] = _seal(state)
    return state


def newest_first(states: np.ndarray) -> list[int]:
    """Give the slots whose state is sealed, the newest first."""
    slots = [slot for slot in (0, 1) if states[slot]["seal"] == _seal(states[slot])]
    return sorted(slots, key=lambda slot: int(states[slot]["sequence"]), reverse=True)


def is_proved(state: Row, checksum: int | None, rows: np.ndarray) -> bool:
    """Tell whether the checksum of a sum's bytes and the table's rows are those of its state."""
    count = int(state["count"])
    is_all_there = len(rows) >= count and zlib.crc32(rows[:count].tobytes()) == state["rows"]
    return is_all_there and checksum == state["checksum"]


def _seal(state: Row) -> int:
    bare = state.copy()
    bare["seal"] = 0
    return zlib.crc32(bare.tobytes())
