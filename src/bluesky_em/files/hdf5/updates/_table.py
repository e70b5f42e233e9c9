"""The table of updates in a file: their numbers, checksums and places."""

from __future__ import annotations

import zlib
from typing import Any

import h5py
import numpy as np

from bluesky_em.errors import FrameMismatch

from ._update import Update

Row = Any
"""A numpy scalar with named fields; numpy has no static types for them."""
TABLE = "/entry/updates"
"""Path of the table: one row for each update, in the order in which they were written."""
ABSENT = -1
"""As number: this row has no update."""
CHUNK_ROWS = 512
"""Rows in a chunk of the table, and rows that the copy in memory grows by at least."""


def create_table(file: h5py.File, axes: int) -> None:
    """Create the empty table for an array with `axes` axes."""
    create_rows(file, TABLE, axes, CHUNK_ROWS)


def create_rows(file: h5py.File, name: str, axes: int, chunk: int) -> None:
    """Create an empty dataset for rows of the table, `chunk` rows in a chunk."""
    dtype = _dtype(axes)
    rows = file.create_dataset(
        name, shape=(0,), maxshape=(None,), chunks=(chunk,), dtype=dtype, fillvalue=_blank(dtype)
    )
    rows.attrs["time_units"] = "s since 1970-01-01T00:00:00Z"


class Table:
    """The table of a file, for the one process that writes it.

    A row ends with a CRC-32 of itself, its seal. After a kill, only the rows before the first one
    with a wrong seal are valid: they include every flushed row, and later ones are written again.

    Args:
        dataset: at `TABLE`.
    """

    def __init__(self, dataset: h5py.Dataset):
        self._dataset = dataset
        self._rows = dataset[:]
        self._count = 0
        self.cut(len(sealed(self._rows)))

    @property
    def rows(self) -> np.ndarray:
        """All rows, in the order in which updates were written; read only."""
        return self._rows[: self._count]

    @property
    def ends(self) -> np.ndarray:
        """On each axis the index behind the last element of any update."""
        return self._ends

    def cut(self, count: int) -> None:
        """Keep the first `count` rows and blank the rows behind them."""
        self._count = count
        self._positions = {int(n): i for i, n in enumerate(self.rows["number"])}
        ends = self.rows["offset"] + self.rows["shape"]
        self._ends = ends.max(axis=0, initial=0)
        if count < len(self._dataset):
            self._rows[count:] = _blank(self._dataset.dtype)
            self._dataset[count:] = self._rows[count : len(self._dataset)]

    def get(self, number: int) -> Row | None:
        """Return the row of an update, None if it has none."""
        position = self._positions.get(number)
        return None if position is None else self._rows[position].copy()

    def find(self, number: int) -> Update | None:
        """Return the update that a row describes, None if it has none."""
        row = self.get(number)
        if row is None:
            return None
        shape, index = (tuple(int(n) for n in row[name]) for name in ("shape", "offset"))
        checksum, time = int(row["checksum"]), float(row["time"])
        return Update(number=number, shape=shape, checksum=checksum, time=time, index=index)

    def matching(self, update: Update) -> Row | None:
        """Return the row of an update, None if it has none.

        Raises:
            FrameMismatch: another update has this number.
        """
        row = self.get(update.number)
        if row is not None and row["checksum"] != update.checksum:
            raise FrameMismatch(
                f"update {update.number} has CRC-32 {update.checksum:08x}, but the one of that "
                f"number in the file has {int(row['checksum']):08x}: a new one needs a new number"
            )
        return row

    def put(self, row: Row) -> None:
        """Seal a row and write it: behind the last row, or over the row of the same number."""
        row["seal"] = _seal(row)
        position = self._positions.setdefault(int(row["number"]), self._count)
        if position == self._count:
            self._reserve(position + 1)
            self._count += 1
            self._ends = np.maximum(self._ends, row["offset"] + row["shape"])
        self._rows[position] = row
        self._dataset[position] = row

    def row(self, update: Update, offset: np.ndarray, shape: np.ndarray) -> Row:
        """Return a new row for an update, not sealed and not written."""
        row: Row = np.zeros((), self._dataset.dtype)[()]
        row["number"], row["time"], row["checksum"] = update.number, update.time, update.checksum
        row["offset"], row["shape"] = offset, shape
        return row

    def overlapping(self, row: Row) -> np.ndarray:
        """Return the rows of the other updates that share elements with this one."""
        start, end = row["offset"], row["offset"] + row["shape"]
        if np.any(start >= self._ends):  # behind all others: the usual case, and cheap
            return self._rows[:0]
        first = np.maximum(self.rows["offset"], start)
        last = np.minimum(self.rows["offset"] + self.rows["shape"], end)
        shares = np.all(first < last, axis=1)
        return self.rows[shares & (self.rows["number"] != row["number"])]

    def _reserve(self, count: int) -> None:
        if count > len(self._dataset):
            self._dataset.resize(count, axis=0)
        if count > len(self._rows):
            more = np.full(max(CHUNK_ROWS, count), _blank(self._dataset.dtype), self._dataset.dtype)
            self._rows = np.concatenate([self._rows, more])


def sealed(rows: np.ndarray) -> np.ndarray:
    """Return the rows before the first one with a wrong seal."""
    size, plain = rows.dtype.itemsize, memoryview(_bare(rows))
    for index, seal in enumerate(rows["seal"].tolist()):
        if zlib.crc32(plain[index * size : (index + 1) * size]) != seal:
            return rows[:index]
    return rows


def is_sealed(row: Row) -> bool:
    """Check the seal of a row."""
    return row["seal"] == _seal(row)


def _seal(row: Row) -> int:
    return zlib.crc32(_bare(row))


def _bare(rows: Row) -> bytes:
    """Return the sealed bytes: without the seal, and without `landed`, which changes later."""
    bare = rows.copy()
    bare["seal"] = bare["landed"] = 0
    return bare.tobytes()


def _blank(dtype: np.dtype) -> Row:
    row: Row = np.zeros((), dtype)[()]
    row["number"] = ABSENT
    return row


def _dtype(axes: int) -> np.dtype:
    """Return the columns of the table.

    number, time (s), checksum: the update's. offset, shape: the block of the array it was written
    to. overwrote: the number of earlier updates that had elements there. landed: 1 if its bytes
    were verified before a newer update overwrote them. seal: CRC-32 of the row with landed and seal
    0.
    """
    return np.dtype(
        [
            ("number", "<i8"),
            ("time", "<f8"),
            ("offset", "<i8", (axes,)),
            ("shape", "<i8", (axes,)),
            ("overwrote", "<u4"),
            ("checksum", "<u4"),
            ("landed", "<u4"),
            ("seal", "<u4"),
        ]
    )
