"""Mode `add` with rows of any length."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from bluesky_em.documents import DATASET
from bluesky_em.errors import FrameMismatch
from bluesky_em.update_modes import UpdateDeclaration

from ._growing import GrowingFile, create_array, grow, put
from ._table import TABLE, Table, create_table
from ._update import Held, Update, fit, place

STARTS, STOPS = "/entry/data/row_start", "/entry/data/row_stop"
"""Where each row begins and ends in the flat data."""
_RULE = "row i is data[row_start[i]:row_stop[i]]"


class RaggedFile:
    """Writes rows of any length one behind the other into flat data.

    Declared with shape `(rows, length, *inner)`, the data has shape `(elements, *inner)`; its
    attribute `ragged` says how to find a row. HDF5's own variable-length rows would be slower,
    and HDF5 does not promise that readers of a growing file see them.

    What decides is the table: elements and row bounds behind those of its last row are remains of
    a killed writer, and are written over.

    Args:
        path: made, with its folders, if absent.
        declared: of mode `add`, ragged.
        owner: whose updates they are.
    """

    def __init__(self, path: Path, declared: UpdateDeclaration, owner: str):
        self._declared = declared
        self._file = GrowingFile(path, declared, owner, _create)
        self._data = self._file.dataset(DATASET)
        self._bounds = [self._file.dataset(name) for name in (STARTS, STOPS)]
        self._table = Table(self._file.dataset(TABLE))
        for bounds in self._bounds:
            bounds[self._end() :] = 0

    def write(self, update: Update, values: np.ndarray) -> None:
        """Put one row, or several of equal length, behind the last; again: changes nothing.

        Raises:
            FrameMismatch: it does not fit what was declared, or its row or number is another's.
        """
        block = fit(self._declared, update, values)
        count, length, *inner = block.shape
        row = self._table.same(update)
        if row is None:
            start = np.array([self._table.ends[0], *[0] * len(inner)])
            first = self._first_row(update, count)
            row = self._table.row(update, start, np.array([count * length, *inner]), first)
            row["rows"] = count
        start, first = row["offset"], int(row["place"])
        grow(self._data, start + row["shape"])
        put(self._data, start, block.reshape(count * length, *inner))
        self.extend(first + count)
        begins = int(start[0]) + length * np.arange(count)
        for bounds, values in zip(self._bounds, (begins, begins + length), strict=True):
            bounds[first : first + count] = values
        self._table.put(row)

    def extend(self, rows: int) -> None:
        """Have at least so many rows; new ones are empty."""
        for bounds in self._bounds:
            grow(bounds, np.array([rows]))

    def flush(self) -> None:
        """Make what was written visible to readers and safe against a power cut."""
        self._file.sync()

    def find(self, number: int) -> Update | None:
        """Give what is known of an update that came, with the place it went to."""
        return self._table.find(number)

    def verify(self, number: int) -> Held:
        """Tell from flushed bytes whether an update is in the file."""
        row = self._table.get(number)
        if row is None:
            return Held.ABSENT
        stored = self._file.checksum(self._data, row["offset"], row["shape"])
        return Held.INTACT if stored == row["checksum"] else Held.ABSENT

    def holds(self, update: Update) -> bool:
        """Tell whether an update is in the file, flushed, byte for byte."""
        row = self._table.get(update.number)
        is_known = row is not None and row["checksum"] == update.checksum
        return is_known and self.verify(update.number) is Held.INTACT

    def close(self) -> None:
        """Close it for good: readable by anything from now on. Closing twice is harmless."""
        self._file.close()

    def _end(self) -> int:
        """Give the number of the next row."""
        rows = self._table.rows
        return int((rows["place"] + rows["rows"]).max(initial=0))

    def _first_row(self, update: Update, count: int) -> int:
        rows = self._table.rows
        begins, ends = rows["place"], rows["place"] + rows["rows"]
        first = place(self._declared, update)[0]
        if first == -1:
            first = self._end()
        taken = rows["number"][(begins < first + count) & (ends > first)]
        limit = self._declared.shape[0]
        if len(taken):
            raise FrameMismatch(
                f"update {update.number} has row {first} as index, which is update "
                f"{taken[0]}'s: rows of any length cannot be written over"
            )
        if limit is not None and first + count > limit:
            raise FrameMismatch(
                f"update {update.number} would have row {first + count - 1}, but at most {limit} "
                "rows were declared"
            )
        return first


def _create(file: h5py.File, declared: UpdateDeclaration) -> None:
    flat = replace(declared, shape=(None, *declared.shape[2:]), rows=declared.rows.EQUAL)
    create_array(file, DATASET, flat, _chunk(declared))
    file[DATASET].attrs["ragged"] = _RULE
    for name in (STARTS, STOPS):
        file.create_dataset(name, shape=(0,), maxshape=(None,), chunks=(1024,), dtype="<i8")
    create_table(file, len(flat.shape))


def _chunk(declared: UpdateDeclaration) -> tuple[int, ...]:
    """Give chunks of 64 kB: each flush writes the last one anew."""
    inner = [size or 1 for size in declared.shape[2:]]
    size = int(np.prod(inner, dtype=np.int64)) * np.dtype(declared.dtype).itemsize
    return (max(1, (1 << 16) // size), *inner)
