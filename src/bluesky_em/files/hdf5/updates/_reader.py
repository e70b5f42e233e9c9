"""Reads updates back, also while they come."""

from __future__ import annotations

import json
import time
import zlib
from pathlib import Path
from types import EllipsisType
from typing import Any

import numpy as np

from bluesky_em.documents import DATASET
from bluesky_em.update_modes import Rows, UpdateDeclaration, UpdateMode

from .._raw_bytes import open_to_read
from ._slots import HOLDERS, SLOTS
from ._state import STATES, is_proved, newest_first
from ._table import TABLE, Row, is_sealed, sealed

Region = tuple[int | slice | EllipsisType, ...]

_TRIES = 20
_PAUSE = 0.01  # seconds between tries, while the writer is at what is being read


class UpdateReader:
    """Reads a file of updates. Single updates, newest values and sums are whole or an error.

    The array of modes `add` and `add_slice` is read as it is: what was not flushed may be half
    there, so wait for the document that tells of an update.

    Args:
        path: a file of `open_updates`.
    """

    def __init__(self, path: Path):
        self._file = open_to_read(path)
        self.declared = UpdateDeclaration.load(
            json.loads(str(self._file["entry"].attrs["updates"]))
        )

    def read(self, region: Region = (...,)) -> np.ndarray:
        """Read the array as it is now, or a region of it, as numpy takes it.

        Mode `replace`: the newest value. UpdateMode `accumulate`: the sum, zeros before the first.

        Raises:
            LookupError: mode `replace`, and there is no value yet.
            ValueError: rows of any length are no array.
        """
        match self.declared.mode:
            case UpdateMode.REPLACE:
                return self._newest()[region]
            case UpdateMode.ACCUMULATE:
                return self._sum()[0][region]
        if self.declared.rows is Rows.RAGGED:
            raise ValueError(f"{self._file.filename} has rows of any length: read them by `row`")
        return self._get(DATASET)[region]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array as it is now."""
        return self._get(DATASET).shape

    def row(self, index: int) -> np.ndarray:
        """Read row `index` as long as it is: without padding, shape `(length, *inner)`.

        Raises:
            LookupError: there is no such row.
            ValueError: this mode has no rows.
        """
        rows = self._rows()
        if self.declared.rows is Rows.RAGGED:
            rows = rows[(rows["place"] <= index) & (index < rows["place"] + rows["rows"])]
        elif (
            self.declared.mode in (UpdateMode.ADD, UpdateMode.ADD_SLICE)
            and len(self.declared.shape) > 1
        ):
            first = rows["offset"][:, 0]
            rows = rows[(first <= index) & (index < first + rows["shape"][:, 0])]
        else:
            raise ValueError(f"{self._file.filename} has no rows, but {self.declared.dump()}")
        if not len(rows):
            raise LookupError(f"{self._file.filename} holds no row {index}")
        if self.declared.rows is Rows.RAGGED:
            return self.update(int(rows[0]["number"]))[index - int(rows[0]["place"])]
        return self._get(DATASET)[index, : int((rows["offset"] + rows["shape"])[:, 1].max())]

    def update(self, number: int) -> np.ndarray:
        """Read the values of update `number`: in mode `replace`, of that version.

        Its shape has as many axes as was declared.

        Raises:
            LookupError: it is not there, or has been written over, replaced or added up.
        """
        tries = 1 if self.declared.mode is UpdateMode.ACCUMULATE else _TRIES
        for attempt in range(tries):
            time.sleep(_PAUSE if attempt else 0)
            row = self._row(number)
            if self.declared.mode is UpdateMode.REPLACE:
                row = self._kept().get(number)
            values = None if row is None else self._values(row)
            if values is not None:
                return values
        raise LookupError(
            f"{self._file.filename} has no values of its own for update {number}: it is just being "
            "written, or has been written over, replaced or added up"
        )

    def numbers(self) -> list[int]:
        """Give the numbers of all updates that came, in that order."""
        rows = self._rows()
        if self.declared.mode is UpdateMode.ACCUMULATE:
            rows = rows[: self._sum()[1]]
        return [int(number) for number in rows["number"]]

    def readable(self) -> list[int]:
        """Give the numbers of the updates whose own values are to be had by `update`.

        Mode `replace`: the versions that are kept. Mode `add_slice`: those that no newer one has
        touched. Mode `accumulate`: none.
        """
        match self.declared.mode:
            case UpdateMode.ACCUMULATE:
                return []
            case UpdateMode.REPLACE:
                return self.versions()
        rows = self._rows()
        return [int(row["number"]) for row in rows if not _is_touched(row, rows)]

    def versions(self) -> list[int]:
        """Give the numbers of the values that mode `replace` keeps, the newest last.

        Raises:
            ValueError: another mode.
        """
        if self.declared.mode is not UpdateMode.REPLACE:
            raise ValueError(f"{self._file.filename} has no versions, but {self.declared.dump()}")
        keep = self.declared.keep_versions
        return sorted(self._kept())[0 if keep == "all" else -keep :]

    def count(self) -> int:
        """Give how many updates came; in mode `accumulate`, how many are in the sum."""
        return self._sum()[1] if self.declared.mode is UpdateMode.ACCUMULATE else len(self._rows())

    def table(self) -> np.ndarray:
        """Give the rows of `/entry/updates`."""
        return self._rows()

    def close(self) -> None:
        """Close; closing twice is harmless."""
        self._file.close()

    def __enter__(self) -> UpdateReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _newest(self) -> np.ndarray:
        for attempt in range(_TRIES):
            time.sleep(_PAUSE if attempt else 0)
            kept = self._kept()
            for number in sorted(kept, reverse=True):
                value = self._values(kept[number])
                if value is not None:
                    return value
            if not kept:
                break
        raise LookupError(f"{self._file.filename} holds no whole value (yet)")

    def _kept(self) -> dict[int, Row]:
        """Give the rows of the updates that are in slots, with the slot as their place."""
        holders, known = self._get(HOLDERS)[:], set(self._rows()["number"])
        kept: dict[int, Row] = {}
        for slot, row in enumerate(holders):
            if is_sealed(row) and row["number"] in known:
                row["place"] = slot
                kept[int(row["number"])] = row
        return kept

    def _sum(self) -> tuple[np.ndarray, int]:
        """Give the newest sum that is proved, and of how many updates it is."""
        total_shape = [size or 0 for size in self.declared.shape]
        for attempt in range(_TRIES):
            time.sleep(_PAUSE if attempt else 0)
            states, rows = self._get(STATES)[:], self._rows()
            for slot in newest_first(states):
                total = self._get(SLOTS)[slot]
                if is_proved(states[slot], zlib.crc32(total.tobytes()), rows):
                    return total, int(states[slot]["count"])
            if not states[0]["sequence"]:  # nothing has been flushed: slot 1 is the first
                return np.zeros(total_shape, self.declared.sum_dtype), 0
        raise LookupError(f"{self._file.filename} holds no whole sum: is it damaged?")

    def _values(self, row: Row) -> np.ndarray | None:
        """Give an update's own values; None if they are not there (any more)."""
        first, last = row["offset"], row["offset"] + row["shape"]
        region = tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
        if self.declared.mode is UpdateMode.REPLACE:
            slot = int(row["place"])
            values = self._get(SLOTS)[(slice(slot, slot + 1), *region)]
        else:
            values = self._get(DATASET)[region]
        if zlib.crc32(values.tobytes()) != row["checksum"]:
            return None
        if self.declared.mode is UpdateMode.REPLACE:
            return values[0] if len(values) else None
        if self.declared.rows is Rows.RAGGED:
            rows = int(row["rows"])
            return values.reshape(rows, len(values) // max(1, rows), *values.shape[1:])
        return values

    def _row(self, number: int) -> Row:
        rows = self._rows()
        found = np.flatnonzero(rows["number"] == number)
        if not len(found):
            raise LookupError(f"{self._file.filename} holds no update {number}")
        return rows[found[0]]

    def _rows(self) -> np.ndarray:
        return sealed(self._get(TABLE)[:])

    def _get(self, name: str) -> Any:
        dataset: Any = self._file[name]
        dataset.id.refresh()
        return dataset


def _is_touched(row: Row, rows: np.ndarray) -> bool:
    """Tell whether a newer update has elements in common with this one."""
    newer = rows[rows["number"] > row["number"]]
    first = np.maximum(newer["offset"], row["offset"])
    last = np.minimum(newer["offset"] + newer["shape"], row["offset"] + row["shape"])
    return bool(np.all(first < last, axis=1).any())
