"""Mode `replace`: the newest value wins."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from bluesky_em.documents import DATASET
from bluesky_em.update_modes import UpdateDeclaration

from ._growing import GrowingFile, grow
from ._slots import HOLDERS, SLOTS, create_shown, create_slots, put_slot, show
from ._table import TABLE, Row, Table, create_rows, create_table, is_sealed
from ._update import Held, Update, fit, refuse_index


class ReplaceFile:
    """Writes each value into a slot of its own, so that the one before is there until it is.

    With `keep_versions` N there are N + 1 slots: the oldest value goes for the next one, and only
    after all others have been flushed. Each slot has a copy of the table's row of its update. The
    newest value is the one with the highest number whose slot's bytes have its checksum, whatever
    a kill or a power cut left in the others. It is also copied to `/entry/data/data` for those
    who read without knowing of slots.

    Args:
        path: made, with its folders, if absent.
        declared: of mode `replace`.
        owner: whose updates they are.
    """

    def __init__(self, path: Path, declared: UpdateDeclaration, owner: str):
        self._declared = declared
        self._file = GrowingFile(path, declared, owner, _create)
        self._slots = self._file.dataset(SLOTS)
        self._holders = self._file.dataset(HOLDERS)
        self._shown = self._file.dataset(DATASET)
        self._table = Table(self._file.dataset(TABLE))
        self._is_pending = False
        self._held = self._whole()
        """In which slot each update is that is there; in a torn slot there is none."""
        self._show()

    def write(self, update: Update, values: np.ndarray) -> None:
        """Make a value the newest, unless a newer one is there; again: changes nothing.

        Raises:
            FrameMismatch: it does not fit what was declared, or another update has its number.
        """
        refuse_index(update)
        value = fit(self._declared, update, values)
        row = self._table.same(update)
        if row is None:
            shape = np.array(value.shape)
            row = self._table.row(update, 0 * shape, shape)
        self._table.put(row)
        if update.number not in self._held and not self._is_too_old(update.number):
            self._put(self._free_slot(), row, value)

    def flush(self) -> None:
        """Make what was written visible to readers and safe against a power cut."""
        self._file.sync()
        if self._is_pending:
            self._is_pending = False
            self._show()

    def find(self, number: int) -> Update | None:
        """Give what is known of an update that came, with the place it went to."""
        return self._table.find(number)

    def verify(self, number: int) -> Held:
        """Tell from flushed bytes how much of an update is in the file."""
        row, slot = self._table.get(number), self._held.get(number)
        if row is not None and slot is not None and self._is_whole(slot, row):
            return Held.INTACT
        return Held.SUPERSEDED if row is not None and self._is_too_old(number) else Held.ABSENT

    def holds(self, update: Update) -> bool:
        """Tell whether an update is in the file, flushed, or was before newer ones came."""
        row = self._table.get(update.number)
        is_known = row is not None and row["checksum"] == update.checksum
        return is_known and self.verify(update.number) is not Held.ABSENT

    def close(self) -> None:
        """Close it for good: readable by anything from now on. Closing twice is harmless."""
        if self._file.is_open:
            try:
                self.flush()
            finally:
                self._file.close()

    def _put(self, slot: int, row: Row, value: np.ndarray) -> None:
        put_slot(self._slots, slot, value)
        grow(self._holders, np.array([slot + 1]))
        self._holders[slot] = row
        self._held[int(row["number"])] = slot
        self._is_pending = True

    def _free_slot(self) -> int:
        """Give a slot without a value, if need be that of the oldest, when all are flushed."""
        keep, taken = self._declared.keep_versions, set(self._held.values())
        slots = len(taken) + 1 if keep == "all" else keep + 1
        free = [slot for slot in range(slots) if slot not in taken]
        if free:
            return free[0]
        if self._is_pending:
            self.flush()
        return self._held.pop(min(self._held))

    def _is_too_old(self, number: int) -> bool:
        """Tell whether newer values are all that is to be kept."""
        keep = self._declared.keep_versions
        return keep != "all" and sum(held > number for held in self._held) >= keep

    def _whole(self) -> dict[int, int]:
        rows = enumerate(self._holders[:])
        whole = {int(row["number"]): slot for slot, row in rows if self._is_whole(slot, row)}
        return {
            number: slot for number, slot in whole.items() if self._table.get(number) is not None
        }

    def _is_whole(self, slot: int, row: Row) -> bool:
        start = np.array([slot, *row["offset"]])
        stored = self._file.checksum(self._slots, start, np.array([1, *row["shape"]]))
        return is_sealed(row) and stored == row["checksum"]

    def _show(self) -> None:
        """Copy the newest value to where everybody reads it."""
        if not self._held:
            return
        slot = self._held[max(self._held)]
        region = tuple(slice(int(size)) for size in self._holders[slot]["shape"])
        show(self._shown, self._slots[slot][region], self._declared.fill)
        self._file.flush()


def _create(file: h5py.File, declared: UpdateDeclaration) -> None:
    keep = declared.keep_versions
    slots = None if keep == "all" else keep + 1
    create_slots(file, declared, slots, declared.dtype)
    create_rows(file, HOLDERS, len(declared.shape), 1)
    create_shown(file, DATASET, declared, declared.dtype)
    create_table(file, len(declared.shape))
