"""Mode `add_slice`: updates have their place in one array."""

from __future__ import annotations

import zlib
from pathlib import Path

import h5py
import numpy as np

from bluesky_em.documents import DATASET
from bluesky_em.update_modes import UpdateDeclaration

from ._growing import create_array, get, grow, put
from ._mode_file import UpdateFile
from ._table import Row, create_table
from ._update import Held, Update, check_bounds, fit, place


class SlicesFile(UpdateFile):
    """Writes updates into one growing array; where updates overlap, the newest number remains.

    So the array does not depend on the order in which updates are written. Only an index of -1
    depends on it: it means behind the elements that exist when the update is written the first
    time, and the table keeps the resolved index. Behind means: on axis 0 after all updates; on
    another axis after those that share the indices on the axes before it. So (-1, 0) is the next
    row, and (7, -1) continues row 7.

    An update that overlaps no other is verified by its checksum. Before an update is overwritten,
    its bytes are flushed and verified, which the table records (`landed`); then the row of the
    newer update is flushed, then its bytes are written. So a kill in between never leaves a mixture
    that the table does not record. A power cut may: updates since the last `flush` have to be
    written again, and elements beside them that were never written may be 0 instead of NaN.
    """

    def __init__(self, path: Path, declared: UpdateDeclaration, owner: str):
        super().__init__(path, declared, owner)
        self._array = self._file.dataset(DATASET)
        self._unsynced: set[int] = set()
        """Numbers of the updates since the last flush: after a power cut they are written again."""

    def write(self, update: Update, values: np.ndarray) -> None:
        """Write an update to its place; writing it again changes nothing.

        Raises:
            FrameMismatch: it does not fit the declaration, or another update has its number.
        """
        block = fit(self._declared, update, values)
        row = self._table.matching(update)
        others = self._table.rows[:0]
        if row is None:
            shape = np.array(block.shape)
            row = self._table.row(update, self._resolve(update, shape), shape)
            check_bounds(self._declared, update, row["offset"] + shape)
        self._unsynced.add(update.number)
        if block.size:
            others = self._table.overlapping(row)
        if len(others):
            self._write_overlapping(row, block, others)
            return
        self._put(row, block)
        self._table.put(row)

    def flush(self) -> None:
        """Flush all updates: visible to readers, safe against a kill and a power cut."""
        self._file.sync()
        self._unsynced.clear()

    @staticmethod
    def _create(file: h5py.File, declared: UpdateDeclaration) -> None:
        create_array(file, DATASET, declared)
        create_table(file, len(declared.shape))

    def _verify(self, row: Row) -> Held:
        if np.any(self._table.overlapping(row)["number"] > row["number"]):
            return Held.SUPERSEDED if row["landed"] else Held.ABSENT
        return Held.INTACT if self._is_intact(row) else Held.ABSENT

    def _is_intact(self, row: Row) -> bool:
        return self._checksum(row) == row["checksum"]

    def _checksum(self, row: Row) -> int | None:
        return self._file.checksum(self._array, row["offset"], row["shape"])

    def _write_overlapping(self, row: Row, block: np.ndarray, others: np.ndarray) -> None:
        number = int(row["number"])
        newer, older = others[others["number"] > number], others[others["number"] < number]
        self._file.flush()
        self._verify_before_overwriting(older)
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
                self._record_verified(row)

    def _verify_before_overwriting(self, older: np.ndarray) -> None:
        verified = [row for row in older if not row["landed"] and self._is_intact(row)]
        for row in verified:
            self._record_verified(row)
        if any(int(row["number"]) not in self._unsynced for row in verified):
            self._file.sync()  # the writer does not write these again after a power cut

    def _beneath(self, row: Row, block: np.ndarray, newer: np.ndarray) -> np.ndarray:
        """Return the block with the elements of newer updates in it."""
        offset, shape = row["offset"], row["shape"]
        grow(self._array, offset + shape)
        current, block = get(self._array, offset, shape), block.copy()
        for other in newer:
            low = np.maximum(other["offset"] - offset, 0)
            high = np.minimum(other["offset"] + other["shape"] - offset, shape)
            shared = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
            block[shared] = current[shared]
        return block

    def _put(self, row: Row, block: np.ndarray) -> None:
        grow(self._array, row["offset"] + block.shape)
        put(self._array, row["offset"], block)

    def _record_verified(self, row: Row) -> None:
        verified = row.copy()
        verified["landed"] = 1
        self._table.put(verified)

    def _resolve(self, update: Update, shape: np.ndarray) -> np.ndarray:
        """Return the index with each -1 replaced by the index behind the existing elements."""
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
