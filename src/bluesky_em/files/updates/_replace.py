"""Mode `replace`: the newest value wins."""

from __future__ import annotations

import zlib
from pathlib import Path

import h5py
import numpy as np

from ...documents import DATASET
from ._declaration import Declaration
from ._growing import GrowingFile
from ._slots import SLOTS, create_shown, create_slots, put_slot, show
from ._table import TABLE, Row, Table, create_table
from ._update import Held, Update, fit, refuse_index


class ReplaceFile:
    """Writes each value into a slot of its own, so that the one before is there until it is.

    With `keep_versions` N there are N + 1 slots: the oldest value goes for the next one, and only
    after all others have been flushed. The newest value is the one with the highest number whose
    bytes have its checksum, whatever a kill or a power cut left in the other slots. It is also
    copied to `/entry/data/data` for those who read without knowing of slots.

    Args:
        path: made, with its folders, if absent.
        declared: of mode `replace`.
        owner: whose updates they are.
    """

    def __init__(self, path: Path, declared: Declaration, owner: str):
        self._declared = declared
        self._file = GrowingFile(path, declared, owner, _create)
        self._slots = self._file.dataset(SLOTS)
        self._shown = self._file.dataset(DATASET)
        self._table = Table(self._file.dataset(TABLE))
        held = {int(row["place"]): row for row in self._table.rows if row["place"] >= 0}
        self._held = {slot: int(row["number"]) for slot, row in held.items() if self._is_whole(row)}
        """Which update each slot holds; a slot that a kill left torn holds none."""
        self._is_pending = False
        self._show()

    def write(self, update: Update, values: np.ndarray) -> None:
        """Make a value the newest, unless a newer one is there; again: changes nothing.

        Raises:
            FrameMismatch: it does not fit what was declared.
            ValueError: another update has its number.
        """
        refuse_index(update)
        value = fit(self._declared, update, values)
        row = self._table.find(update)
        if row is None:
            if self._is_pending:
                self.flush()  # before the slot of an older value goes
            shape = np.array(value.shape)
            row = self._table.row(update, 0 * shape, shape, self._take_slot(update.number))
        slot = int(row["place"])
        if slot >= 0 and self._held.setdefault(slot, update.number) == update.number:
            put_slot(self._slots, slot, value)
            self._is_pending = True
        self._table.put(row)

    def extend(self, rows: int) -> None:
        """Do nothing: a value that was lost leaves no gap."""

    def flush(self) -> None:
        """Make what was written visible to readers and safe against a power cut."""
        self._file.sync()
        if self._is_pending:
            self._is_pending = False
            self._show()

    def verify(self, number: int) -> Held:
        """Tell from flushed bytes how much of an update is in the file."""
        row = self._table.get(number)
        if row is None:
            return Held.ABSENT
        if row["place"] >= 0 and self._held.get(int(row["place"]), number) == number:
            if self._is_whole(row):
                return Held.INTACT
            return Held.SUPERSEDED if self._is_too_old(number) else Held.ABSENT
        return Held.SUPERSEDED

    def holds(self, update: Update) -> bool:
        """Tell whether an update is in the file, flushed, or was before newer ones came."""
        row = self._table.get(update.number)
        is_known = row is not None and row["checksum"] == update.checksum
        return is_known and self.verify(update.number) is not Held.ABSENT

    def close(self) -> None:
        """Close it for good: readable by anything from now on. Closing twice is harmless."""
        self._file.close()

    def _take_slot(self, number: int) -> int:
        """Give a slot for a new value; -1 if more than enough newer ones are kept."""
        keep = self._declared.keep_versions
        if keep == "all":
            return len(self._table.rows)
        free = [slot for slot in range(keep + 1) if slot not in self._held]
        if free:
            return free[0]
        oldest = min(self._held, key=lambda slot: self._held[slot])
        if self._held[oldest] > number:
            return -1
        del self._held[oldest]
        return oldest

    def _is_too_old(self, number: int) -> bool:
        keep = self._declared.keep_versions
        return keep != "all" and sum(held > number for held in self._held.values()) >= keep

    def _is_whole(self, row: Row) -> bool:
        start = np.array([row["place"], *row["offset"]])
        stored = self._file.flushed(self._slots, start, np.array([1, *row["shape"]]))
        return stored is not None and zlib.crc32(stored) == row["checksum"]

    def _show(self) -> None:
        """Show the newest value again: a kill may have come in between."""
        if not self._held:
            return
        slot, number = max(self._held.items(), key=lambda item: item[1])
        row = self._table.get(number)
        assert row is not None
        value = self._slots[slot][tuple(slice(int(size)) for size in row["shape"])]
        show(self._shown, value, self._declared.fill)
        self._file.flush()


def _create(file: h5py.File, declared: Declaration) -> None:
    keep = declared.keep_versions
    create_slots(file, declared, None if keep == "all" else keep + 1, declared.dtype)
    create_shown(file, DATASET, declared, declared.dtype)
    create_table(file, len(declared.shape))
