"""The state of a sum: the updates in it, and the checksums that verify it."""

from __future__ import annotations

import zlib

import h5py
import numpy as np

from ._table import Row

STATES = "/entry/slots/states"
"""Path of the states of the two slots."""
_DTYPE = np.dtype(
    [
        ("sequence", "<i8"),
        ("count", "<i8"),
        ("checksum", "<u4"),
        ("rows", "<u4"),
        ("seal", "<u4"),
    ]
)
"""sequence: the higher is the newer, from 1. count: the first `count` rows of the table are in the
sum. checksum: CRC-32 of the sum's bytes. rows: CRC-32 of those rows. seal: CRC-32 of the state
with seal 0."""


def create_states(file: h5py.File) -> None:
    """Create the states of two empty slots; each has its own chunk."""
    file.create_dataset(STATES, shape=(2,), maxshape=(2,), chunks=(1,), dtype=_DTYPE)


def compose(sequence: int, total: np.ndarray, count: int, rows: int) -> Row:
    """Return the sealed state of a sum of `count` updates, whose rows have the CRC-32 `rows`."""
    state: Row = np.zeros((), _DTYPE)[()]
    state["sequence"], state["count"], state["rows"] = sequence, count, rows
    state["checksum"] = zlib.crc32(total.tobytes())
    state["seal"] = _seal(state)
    return state


def newest_first(states: np.ndarray) -> list[int]:
    """Return the slots whose state has a valid seal, the newest first."""
    slots = [slot for slot in (0, 1) if states[slot]["seal"] == _seal(states[slot])]
    return sorted(slots, key=lambda slot: int(states[slot]["sequence"]), reverse=True)


def is_verified(state: Row, checksum: int | None, rows: np.ndarray) -> bool:
    """Check the checksum of a sum's bytes and the table's rows against the state of the sum."""
    count = int(state["count"])
    has_rows = len(rows) >= count and zlib.crc32(rows[:count].tobytes()) == state["rows"]
    return has_rows and checksum == state["checksum"]


def _seal(state: Row) -> int:
    bare = state.copy()
    bare["seal"] = 0
    return zlib.crc32(bare.tobytes())
