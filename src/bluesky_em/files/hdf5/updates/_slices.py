"""Mode `add_slice`: updates have their place in one array."""

from __future__ import annotations

import zlib
from pathlib import Path

import h5py
import numpy as np

from bluesky_em.documents import DATASET
from bluesky_em.update_modes import UpdateDeclaration

from ._growing import GrowingFile, create_array, get, grow, put
from ._table import TABLE, Row, Table, create_table
from ._update import Held, Update, check_bounds, fit, place


class SlicesFile:
    """Writes updates into one growing array; where several meet, the newest number wins.

    So the array is the same in whatever order updates come. Only where an index is -1 does the
    order decide: it is behind what is there when the update comes the first time, and the table
    keeps what that was. Behind: on axis 0 after all updates, on another axis after those that
    share the indices on the axes before it. So (-1, 0) is the next row, and (7, -1) goes on with
    row 7.

    An update that no other touches is proved by its checksum. Before one is written over, its
    bytes are flushed and proved, which the table notes (`landed`); then the newer one's row is
    flushed, then its bytes follow. So a kill in between never leaves a mixture of which the table
    does not know. A power cut may: what the disk had not been told to keep (`flush`) is to be
    written again, and elements beside it that nothing was written to may hold 0 instead of NaN.

    Args:
        path: made, with its folders, if absent.
        declared: of mode `add_slice`.
        owner: whose updates they are.
    """

    def __init__(self, path: Path, declared: UpdateDeclaration, owner: str):
        self._declared = declared
        self._file = GrowingFile(path, declared, owner, _create)
        self._array = self._file.dataset(DATASET)
        self._table = Table(self._file.dataset(TABLE))
        self._fresh: set[int] = set()
        """Numbers of the updates since the last flush: after a power cut they come again."""

    def write(self, update: Update, values: np.ndarray) -> None:
        """Put an update in its place; writing it again changes nothing.

        Raises:
            FrameMismatch: it does not fit what was declared, or another update has its number.
        """
        block = fit(self._declared, update, values)
        row = self._table.same(update)
        others = self._table.rows[:0]
        if row is None:
            shape = np.array(block.shape)
            row = self._table.row(update, self._resolve(update, shape), shape)
            check_bounds(self._declared, update, row["offset"] + shape)
        self._fresh.add(update.number)
        if block.size:
            others = self._table.overlapping(row)
        if len(others):
            self._write_over(row, block, others)
            return
        self._put(row, block)
        self._table.put(row)

    def flush(self) -> None:
        """Make what was written visible to readers and safe against a power cut."""
        self._file.sync()
        self._fresh.clear()

    def find(self, number: int) -> Update | None:
        """Give what is known of an update that came, with the place it went to."""
        return self._table.find(number)

    def verify(self, number: int) -> Held:
        """Tell from flushed bytes how much of an update is in the file."""
        row = self._table.get(number)
        if row is None:
            return Held.ABSENT
        if np.any(self._table.overlapping(row)["number"] > number):
            return Held.SUPERSEDED if row["landed"] else Held.ABSENT
        return Held.INTACT if self._is_intact(row) else Held.ABSENT

    def holds(self, update: Update) -> bool:
        """Tell whether an update is in the file, flushed, or was before a newer one came."""
        row = self._table.get(update.number)
        is_known = row is not None and row["checksum"] == update.checksum
        return is_known and self.verify(update.number) is not Held.ABSENT

    def close(self) -> None:
        """Close it for good: readable by anything from now on. Closing twice is harmless."""
        self._file.close()

    def _is_intact(self, row: Row) -> bool:
        return self._checksum(row) == row["checksum"]

    def _checksum(self, row: Row) -> int | None:
        return self._file.checksum(self._array, row["offset"], row["shape"])

    def _write_over(self, row: Row, block: np.ndarray, others: np.ndarray) -> None:
        number = int(row["number"])
        newer, older = others[others["number"] > number], others[others["number"] < number]
        self._file.flush()
        landed = [other for other in older if not other["landed"] and self._is_intact(other)]
        for other in landed:
            self._land(other)
        if any(int(other["number"]) not in self._fresh for other in landed):
            self._file.sync()  # nobody may write these again after a power cut
        if self._table.get(number) is None:
            row["overwrote"] = len(older)
            self._table.put(row)
        self._file.flush()
        if len(newer):
            block = self._beneath(row, block, newer)
        self._put(row, block)
        if len(newer):
            self._file.flush()
            if self._checksum(row) == zlib.crc32(block.tobytes()):
                self._land(row)

    def _beneath(self, row: Row, block: np.ndarray, newer: np.ndarray) -> np.ndarray:
        """Give the block as it looks beneath newer updates."""
        offset, shape = row["offset"], row["shape"]
        grow(self._array, offset + shape)
        seen, block = get(self._array, offset, shape), block.copy()
        for other in newer:
            low = np.maximum(other["offset"] - offset, 0)
            high = np.minimum(other["offset"] + other["shape"] - offset, shape)
            common = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
            block[common] = seen[common]
        return block

    def _put(self, row: Row, block: np.ndarray) -> None:
        grow(self._array, row["offset"] + block.shape)
        put(self._array, row["offset"], block)

    def _land(self, row: Row) -> None:
        landed = row.copy()
        landed["landed"] = 1
        self._table.put(landed)

    def _resolve(self, update: Update, shape: np.ndarray) -> np.ndarray:
        """Give the index with each -1 replaced by the index behind what is there."""
        index = np.array(place(self._declared, update))
        for axis in np.flatnonzero(index == -1):
            index[axis] = self._end(int(axis), index, shape)
        return index

    def _end(self, axis: int, index: np.ndarray, shape: np.ndarray) -> int:
        if axis == 0:
            return int(self._table.ends[0])
        rows = self._table.rows
        low, high = rows["offset"][:, :axis], (rows["offset"] + rows["shape"])[:, :axis]
        beside = np.all((low < index[:axis] + shape[:axis]) & (high > index[:axis]), axis=1)
        ends = rows["offset"][beside, axis] + rows["shape"][beside, axis]
        return int(ends.max(initial=0))


def _create(file: h5py.File, declared: UpdateDeclaration) -> None:
    create_array(file, DATASET, declared)
    create_table(file, len(declared.shape))
