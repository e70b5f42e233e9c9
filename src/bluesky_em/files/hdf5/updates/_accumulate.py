"""Mode `accumulate`: updates are added up."""

from __future__ import annotations

import zlib
from pathlib import Path

import h5py
import numpy as np

from bluesky_em.documents import DATASET
from bluesky_em.update_modes import UpdateDeclaration

from ._growing import GrowingFile
from ._slots import SLOTS, create_shown, create_slots, put_slot, show
from ._state import STATES, compose, create_states, is_proved, newest_first
from ._table import TABLE, Table, create_table
from ._update import Held, Update, fit, refuse_index

COUNT = "/entry/data/count"
"""Path of the number of updates in the sum that `/entry/data/data` shows; shape `(1,)`."""


class AccumulateFile:
    """Sums updates up, each exactly once.

    The sum (int64, float64 or complex128) is in memory; each flush writes it, with the state that
    tells which updates it has, to the one of two slots that is not the newest. After a kill the
    newer slot counts whose sum, state and rows of the table prove each other by their checksums,
    and what came later is as if it had never come: it is to be written again. So the order in
    which anything got to the disk between two flushes does not matter. The sum is also copied to
    `/entry/data/data` for those who read without knowing of slots.

    A sum of floats depends on the order of updates as far as rounding does.

    Args:
        path: made, with its folders, if absent.
        declared: of mode `accumulate`.
        owner: whose updates they are.
    """

    def __init__(self, path: Path, declared: UpdateDeclaration, owner: str):
        self._declared = declared
        self._file = GrowingFile(path, declared, owner, _create)
        self._slots = self._file.dataset(SLOTS)
        self._states = self._file.dataset(STATES)
        self._shown = self._file.dataset(DATASET)
        self._shown_count = self._file.dataset(COUNT)
        self._table = Table(self._file.dataset(TABLE))
        self._total = np.zeros(self._slots.shape[1:], self._slots.dtype)
        self._load()
        self._show()

    def write(self, update: Update, values: np.ndarray) -> None:
        """Add an update to the sum, unless it is in it.

        Raises:
            FrameMismatch: it does not fit what was declared, or another update has its number.
        """
        refuse_index(update)
        block = fit(self._declared, update, values)
        if self._table.same(update) is not None:
            return
        shape = np.array(block.shape)
        self._table.put(self._table.row(update, 0 * shape, shape))
        self._total += block

    def flush(self) -> None:
        """Make the sum visible to readers and safe against a power cut."""
        new = self._table.rows[self._count :]
        if not len(new):
            return
        slot = (self._sequence + 1) % 2
        count, rows = self._count + len(new), zlib.crc32(new.tobytes(), self._crc)
        put_slot(self._slots, slot, self._total)
        state = compose(self._sequence + 1, self._total, count, rows)
        self._states[slot] = state
        self._file.sync()
        self._sequence, self._count, self._crc = self._sequence + 1, count, rows
        self._proved = self._checksum(slot) == state["checksum"]
        self._show()

    def find(self, number: int) -> Update | None:
        """Give what is known of an update that came, with the place it went to."""
        return self._table.find(number)

    def verify(self, number: int) -> Held:
        """Tell from flushed bytes whether an update is in the sum."""
        summed = self._table.rows["number"][: self._count]
        return Held.SUMMED if self._proved and number in summed else Held.ABSENT

    def holds(self, update: Update) -> bool:
        """Tell whether an update is in the sum, flushed."""
        row = self._table.get(update.number)
        is_known = row is not None and row["checksum"] == update.checksum
        return is_known and self.verify(update.number) is Held.SUMMED

    def close(self) -> None:
        """Close it for good: readable by anything from now on. Closing twice is harmless."""
        if self._file.is_open:
            try:
                self.flush()
            finally:
                self._file.close()

    def _load(self) -> None:
        """Go on from the newest sum that is proved."""
        self._sequence, self._count, self._crc, self._proved = 0, 0, 0, False
        states = self._states[:]
        slot = next((slot for slot in newest_first(states) if self._is_proved(slot)), None)
        if slot is not None:
            state = states[slot]
            self._sequence, self._count = int(state["sequence"]), int(state["count"])
            self._crc, self._proved = int(state["rows"]), True
            self._total = self._slots[slot]
        elif states[0].tobytes().strip(b"\0"):  # written only once slot 1 was safe
            self._file.close()
            raise OSError(f"{self._file.path} is damaged: neither of its two sums has its checksum")
        self._table.cut(self._count)

    def _is_proved(self, slot: int) -> bool:
        return is_proved(self._states[slot], self._checksum(slot), self._table.rows)

    def _checksum(self, slot: int) -> int | None:
        start = np.array([slot, *[0] * self._total.ndim])
        return self._file.checksum(self._slots, start, np.array([1, *self._total.shape]))

    def _show(self) -> None:
        show(self._shown, self._total, 0)
        self._shown_count[0] = self._count
        self._file.flush()


def _create(file: h5py.File, declared: UpdateDeclaration) -> None:
    create_slots(file, declared, 2, declared.sum_dtype)
    create_states(file)
    create_shown(file, DATASET, declared, declared.sum_dtype)
    file.create_dataset(COUNT, shape=(1,), maxshape=(1,), chunks=(1,), dtype="<i8")
    create_table(file, len(declared.shape))
