"""Mode `replace`: the newest value remains."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from bluesky_em.documents import DATASET
from bluesky_em.update_modes import UpdateDeclaration

from ._growing import grow
from ._mode_file import UpdateFile
from ._slots import HOLDERS, SLOTS, create_published, create_slots, publish, put_slot
from ._table import Row, create_rows, create_table, is_sealed
from ._update import Held, Update, fit, refuse_index


class ReplaceFile(UpdateFile):
    """Writes each value into another slot, so that the previous value exists until it is complete.

    With `keep_versions` N there are N + 1 slots: the oldest value is overwritten by the next one,
    and only after all others have been flushed. Each slot has a copy of the table row of its
    update. The newest value is the one with the highest number whose bytes match its checksum,
    whatever a kill or a power cut left in the other slots. It is also copied to `/entry/data/data`
    for readers that do not know slots.
    """

    def __init__(self, path: Path, declared: UpdateDeclaration, owner: str):
        super().__init__(path, declared, owner)
        self._slots = self._file.dataset(SLOTS)
        self._holders = self._file.dataset(HOLDERS)
        self._published = self._file.dataset(DATASET)
        self._is_pending = False
        self._slot_of = self._find_whole()
        """The slot of each update that has one, by number; a slot with torn bytes is free."""
        self._publish()

    def write(self, update: Update, values: np.ndarray) -> None:
        """Write a value as the newest, unless a newer one exists; repeating it changes nothing.

        Raises:
            FrameMismatch: it does not fit the declaration, or another update has its number.
        """
        refuse_index(update)
        value = fit(self._declared, update, values)
        row = self._table.matching(update)
        if row is None:
            shape = np.array(value.shape)
            row = self._table.row(update, 0 * shape, shape)
        self._table.put(row)
        if update.number not in self._slot_of and not self._is_too_old(update.number):
            self._put(self._free_slot(), row, value)

    def flush(self) -> None:
        """Flush all values: visible to readers, safe against a kill and a power cut."""
        self._file.sync()
        if self._is_pending:
            self._is_pending = False
            self._publish()

    @staticmethod
    def _create(file: h5py.File, declared: UpdateDeclaration) -> None:
        keep = declared.keep_versions
        slots = None if keep == "all" else keep + 1
        create_slots(file, declared, slots, declared.dtype)
        create_rows(file, HOLDERS, len(declared.shape), 1)
        create_published(file, DATASET, declared, declared.dtype)
        create_table(file, len(declared.shape))

    def _verify(self, row: Row) -> Held:
        number = int(row["number"])
        slot = self._slot_of.get(number)
        if slot is not None and self._is_whole(slot, row):
            return Held.INTACT
        return Held.SUPERSEDED if self._is_too_old(number) else Held.ABSENT

    def _put(self, slot: int, row: Row, value: np.ndarray) -> None:
        put_slot(self._slots, slot, value)
        grow(self._holders, np.array([slot + 1]))
        self._holders[slot] = row
        self._slot_of[int(row["number"])] = slot
        self._is_pending = True

    def _free_slot(self) -> int:
        """Return a slot without a value; without one, flush and return that of the oldest."""
        keep, taken = self._declared.keep_versions, set(self._slot_of.values())
        slots = len(taken) + 1 if keep == "all" else keep + 1
        free = [slot for slot in range(slots) if slot not in taken]
        if free:
            return free[0]
        if self._is_pending:
            self.flush()
        return self._slot_of.pop(min(self._slot_of))

    def _is_too_old(self, number: int) -> bool:
        """Check whether enough newer values are kept."""
        keep = self._declared.keep_versions
        return keep != "all" and sum(other > number for other in self._slot_of) >= keep

    def _find_whole(self) -> dict[int, int]:
        rows = enumerate(self._holders[:])
        whole = {int(row["number"]): slot for slot, row in rows if self._is_whole(slot, row)}
        return {
            number: slot for number, slot in whole.items() if self._table.get(number) is not None
        }

    def _is_whole(self, slot: int, row: Row) -> bool:
        start = np.array([slot, *row["offset"]])
        stored = self._file.checksum(self._slots, start, np.array([1, *row["shape"]]))
        return is_sealed(row) and stored == row["checksum"]

    def _publish(self) -> None:
        """Copy the newest value to `/entry/data/data`."""
        if not self._slot_of:
            return
        slot = self._slot_of[max(self._slot_of)]
        region = tuple(slice(int(size)) for size in self._holders[slot]["shape"])
        publish(self._published, self._slots[slot][region], self._declared.fill)
        self._file.flush()
