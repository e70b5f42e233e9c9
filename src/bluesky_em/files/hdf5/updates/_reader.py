"""Reading of update files, also while they are written."""

from __future__ import annotations

import json
import time
import zlib
from pathlib import Path
from types import EllipsisType
from typing import Any

import numpy as np

from bluesky_em.documents import DATASET
from bluesky_em.update_modes import UpdateDeclaration, UpdateMode

from .._raw_bytes import open_to_read
from ._slots import HOLDERS, SLOTS
from ._state import STATES, is_verified, newest_first
from ._table import TABLE, Row, is_sealed, sealed

Region = tuple[int | slice | EllipsisType, ...]

_TRIES = 20
_RETRY_INTERVAL = 0.01  # s between tries, while the writer changes what is being read


class UpdateReader:
    """Reads an update file. Single updates, newest values and sums are complete, or an error.

    The array of mode `add_slice` is read as it is: an update that was not flushed may be there in
    part, so wait for its document.

    Args:
        path: a file of `open_updates`.
    """

    def __init__(self, path: Path):
        self._file = open_to_read(path)
        self.declared = UpdateDeclaration.load(
            json.loads(str(self._file["entry"].attrs["updates"]))
        )

    def read(self, region: Region = (...,)) -> np.ndarray:
        """Read the array as it is now, or a region of it, indexed as in numpy.

        Mode `replace`: the newest value. Mode `accumulate`: the sum, zeros before the first update.

        Raises:
            LookupError: mode `replace`, and there is no value yet.
        """
        match self.declared.mode:
            case UpdateMode.REPLACE:
                return self._newest()[region]
            case UpdateMode.ACCUMULATE:
                return self._sum()[0][region]
            case UpdateMode.ADD_SLICE:
                return self._get(DATASET)[region]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array as it is now."""
        return self._get(DATASET).shape

    def update(self, number: int) -> np.ndarray:
        """Read the values of update `number`: in mode `replace`, of that version.

        Its shape has as many axes as was declared.

        Raises:
            LookupError: it does not exist, or has been overwritten, replaced or added up.
        """
        tries = 1 if self.declared.mode is UpdateMode.ACCUMULATE else _TRIES
        for attempt in range(tries):
            time.sleep(_RETRY_INTERVAL if attempt else 0)
            row = self._row(number)
            if self.declared.mode is not UpdateMode.REPLACE:
                values = self._values(row)
            else:
                values = self._version(number, self._kept())
            if values is not None:
                return values
        raise LookupError(
            f"{self._file.filename} has no values of its own for update {number}: it is being "
            "written, or has been overwritten, replaced or added up"
        )

    def numbers(self) -> list[int]:
        """Return the numbers of all updates, in the order in which they were written."""
        rows = self._rows()
        if self.declared.mode is UpdateMode.ACCUMULATE:
            rows = rows[: self._sum()[1]]
        return [int(number) for number in rows["number"]]

    def readable(self) -> list[int]:
        """Return the numbers of the updates that `update` can read.

        Mode `replace`: the versions that are kept. Mode `add_slice`: those that no newer one
        overlaps. Mode `accumulate`: none.
        """
        match self.declared.mode:
            case UpdateMode.ACCUMULATE:
                return []
            case UpdateMode.REPLACE:
                return self.versions()
        rows = self._rows()
        return [int(row["number"]) for row in rows if not _is_overlapped(row, rows)]

    def versions(self) -> list[int]:
        """Return the numbers of the values that mode `replace` keeps, the newest last.

        Raises:
            ValueError: another mode.
        """
        if self.declared.mode is not UpdateMode.REPLACE:
            raise ValueError(f"{self._file.filename} has no versions, but {self.declared.dump()}")
        keep = self.declared.keep_versions
        return sorted(self._kept())[0 if keep == "all" else -keep :]

    def count(self) -> int:
        """Return the number of updates; in mode `accumulate`, of those in the sum."""
        return self._sum()[1] if self.declared.mode is UpdateMode.ACCUMULATE else len(self._rows())

    def table(self) -> np.ndarray:
        """Return the rows of `/entry/updates`."""
        return self._rows()

    def close(self) -> None:
        """Close the file. Closing twice is harmless."""
        self._file.close()

    def __enter__(self) -> UpdateReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _newest(self) -> np.ndarray:
        for attempt in range(_TRIES):
            time.sleep(_RETRY_INTERVAL if attempt else 0)
            kept = self._kept()
            for number in sorted(kept, reverse=True):
                value = self._version(number, kept)
                if value is not None:
                    return value
            if not kept:
                break
        raise LookupError(f"{self._file.filename} has no complete value (yet)")

    def _kept(self) -> dict[int, tuple[int, Row]]:
        """Return the slot and the row of each update that is in a slot, by number."""
        holders, known = self._get(HOLDERS)[:], set(self._rows()["number"])
        return {
            int(row["number"]): (slot, row)
            for slot, row in enumerate(holders)
            if is_sealed(row) and row["number"] in known
        }

    def _sum(self) -> tuple[np.ndarray, int]:
        """Return the newest sum that matches its checksums, and its number of updates."""
        total_shape = [size or 0 for size in self.declared.shape]
        for attempt in range(_TRIES):
            time.sleep(_RETRY_INTERVAL if attempt else 0)
            states, rows = self._get(STATES)[:], self._rows()
            for slot in newest_first(states):
                total = self._get(SLOTS)[slot]
                if is_verified(states[slot], zlib.crc32(total.tobytes()), rows):
                    return total, int(states[slot]["count"])
            if not states[0]["sequence"]:  # nothing has been flushed: the first slot is 1
                return np.zeros(total_shape, self.declared.sum_dtype), 0
        raise LookupError(f"{self._file.filename} has no complete sum: is it damaged?")

    def _values(self, row: Row) -> np.ndarray | None:
        """Return an update's own values; None if the array does not have them (any more)."""
        values = self._get(DATASET)[_region(row)]
        return values if zlib.crc32(values.tobytes()) == row["checksum"] else None

    def _version(self, number: int, kept: dict[int, tuple[int, Row]]) -> np.ndarray | None:
        """Return a value of mode `replace`; None if no slot has it (any more)."""
        if number not in kept:
            return None
        slot, row = kept[number]
        values = self._get(SLOTS)[(slice(slot, slot + 1), *_region(row))]
        is_whole = len(values) and zlib.crc32(values.tobytes()) == row["checksum"]
        return values[0] if is_whole else None

    def _row(self, number: int) -> Row:
        rows = self._rows()
        found = np.flatnonzero(rows["number"] == number)
        if not len(found):
            raise LookupError(f"{self._file.filename} has no update {number}")
        return rows[found[0]]

    def _rows(self) -> np.ndarray:
        return sealed(self._get(TABLE)[:])

    def _get(self, name: str) -> Any:
        dataset: Any = self._file[name]
        dataset.id.refresh()
        return dataset


def _region(row: Row) -> tuple[slice, ...]:
    first, last = row["offset"], row["offset"] + row["shape"]
    return tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))


def _is_overlapped(row: Row, rows: np.ndarray) -> bool:
    """Check whether a newer update shares elements with this one."""
    newer = rows[rows["number"] > row["number"]]
    first = np.maximum(newer["offset"], row["offset"])
    last = np.minimum(newer["offset"] + newer["shape"], row["offset"] + row["shape"])
    return bool(np.all(first < last, axis=1).any())
