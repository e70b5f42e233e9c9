"""Mode `accumulate`: updates are added up."""

from __future__ import annotations

import zlib
from pathlib import Path

import h5py
import numpy as np

from bluesky_em.documents import DATASET
from bluesky_em.update_modes import UpdateDeclaration

from ._mode_file import UpdateFile
from ._slots import SLOTS, create_published, create_slots, publish, put_slot
from ._state import STATES, compose, create_states, is_verified, newest_first
from ._table import Row, create_table
from ._update import Held, Update, fit, refuse_index

COUNT = "/entry/data/count"
"""Path of the number of updates in the sum at `/entry/data/data`; shape `(1,)`."""


class AccumulateFile(UpdateFile):
    """Adds updates up, each exactly once.

    The sum (int64, float64 or complex128) is in memory. Each flush writes it to the older of two
    slots, with a state that says which updates are in it. After a kill the newer slot is valid
    whose sum, state and rows of the table match by their checksums; later updates count as not
    written, and have to be written again. So the order in which the disk received the bytes between
    two flushes does not matter. The sum is also copied to `/entry/data/data` for readers that do
    not know slots.

    A sum of floats depends on the order of updates by rounding.
    """

    def __init__(self, path: Path, declared: UpdateDeclaration, owner: str):
        super().__init__(path, declared, owner)
        self._slots = self._file.dataset(SLOTS)
        self._states = self._file.dataset(STATES)
        self._published = self._file.dataset(DATASET)
        self._published_count = self._file.dataset(COUNT)
        self._total = np.zeros(self._slots.shape[1:], self._slots.dtype)
        self._load()
        self._publish()

    def write(self, update: Update, values: np.ndarray) -> None:
        """Add an update to the sum, unless it is part of it.

        Raises:
            FrameMismatch: it does not fit the declaration, or another update has its number.
        """
        refuse_index(update)
        block = fit(self._declared, update, values)
        if self._table.matching(update) is not None:
            return
        shape = np.array(block.shape)
        self._table.put(self._table.row(update, 0 * shape, shape))
        self._total += block

    def flush(self) -> None:
        """Flush the sum: visible to readers, safe against a kill and a power cut."""
        new = self._table.rows[self._count :]
        if not len(new):
            return
        slot = (self._sequence + 1) % 2
        count, rows = self._count + len(new), zlib.crc32(new.tobytes(), self._rows_checksum)
        put_slot(self._slots, slot, self._total)
        state = compose(self._sequence + 1, self._total, count, rows)
        self._states[slot] = state
        self._file.sync()
        self._sequence, self._count, self._rows_checksum = self._sequence + 1, count, rows
        self._is_verified = self._checksum(slot) == state["checksum"]
        self._publish()

    @staticmethod
    def _create(file: h5py.File, declared: UpdateDeclaration) -> None:
        create_slots(file, declared, 2, declared.sum_dtype)
        create_states(file)
        create_published(file, DATASET, declared, declared.sum_dtype)
        file.create_dataset(COUNT, shape=(1,), maxshape=(1,), chunks=(1,), dtype="<i8")
        create_table(file, len(declared.shape))

    def _verify(self, row: Row) -> Held:
        summed = self._table.rows["number"][: self._count]
        return Held.SUMMED if self._is_verified and row["number"] in summed else Held.ABSENT

    def _load(self) -> None:
        """Continue from the newest sum that matches its checksums."""
        self._sequence, self._count, self._rows_checksum = 0, 0, 0
        self._is_verified = False
        states = self._states[:]
        slot = next((slot for slot in newest_first(states) if self._is_valid(slot)), None)
        if slot is not None:
            state = states[slot]
            self._sequence, self._count = int(state["sequence"]), int(state["count"])
            self._rows_checksum, self._is_verified = int(state["rows"]), True
            self._total = self._slots[slot]
        elif states[0].tobytes().strip(b"\0"):  # slot 0 is written only once slot 1 is safe
            self._file.close()
            raise OSError(f"{self._file.path} is damaged: neither of its two sums has its checksum")
        self._table.cut(self._count)

    def _is_valid(self, slot: int) -> bool:
        return is_verified(self._states[slot], self._checksum(slot), self._table.rows)

    def _checksum(self, slot: int) -> int | None:
        start = np.array([slot, *[0] * self._total.ndim])
        return self._file.checksum(self._slots, start, np.array([1, *self._total.shape]))

    def _publish(self) -> None:
        """Copy the sum to `/entry/data/data`."""
        publish(self._published, self._total, 0)
        self._published_count[0] = self._count
        self._file.flush()
