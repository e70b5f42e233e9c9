"""The file of a stream's updates: the part that is the same in every mode."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import h5py
import numpy as np

from bluesky_em.update_modes import UpdateDeclaration

from ._growing import GrowingFile
from ._table import TABLE, Row, Table
from ._update import Held, Update


class UpdateFile(ABC):
    """An update file, open for writing by one process; any number of processes may read it.

    Created by `open_updates`, which describes its arguments and errors.
    """

    def __init__(self, path: Path, declared: UpdateDeclaration, owner: str):
        self._declared = declared
        self._file = GrowingFile(path, declared, owner, self._create)
        self._table = Table(self._file.dataset(TABLE))

    @abstractmethod
    def write(self, update: Update, values: np.ndarray) -> None:
        """Apply an update; applying it again changes nothing.

        Raises:
            FrameMismatch: it does not fit the declaration, or another update has its number.
        """

    @abstractmethod
    def flush(self) -> None:
        """Flush all updates: visible to readers, safe against a kill and a power cut."""

    def structure(self) -> bytes:
        """Return the structure of the file as of the last flush, for `put_back`."""
        return self._file.structure()

    def find(self, number: int) -> Update | None:
        """Return an update that was written, its index resolved; None if there is none."""
        return self._table.find(number)

    def verify(self, number: int) -> Held:
        """Check the flushed bytes of an update."""
        row = self._table.get(number)
        return Held.ABSENT if row is None else self._verify(row)

    def holds(self, update: Update) -> bool:
        """Check whether an update is safe, flushed: intact, superseded or summed."""
        row = self._table.get(update.number)
        is_known = row is not None and row["checksum"] == update.checksum
        return is_known and self.verify(update.number) is not Held.ABSENT

    def close(self) -> None:
        """Flush and close the file, which anything can read then. Closing twice is harmless."""
        if self._file.is_open:
            try:
                self.flush()
            finally:
                self._file.close()

    @staticmethod
    @abstractmethod
    def _create(file: h5py.File, declared: UpdateDeclaration) -> None:
        """Create the mode's datasets in a new file."""

    @abstractmethod
    def _verify(self, row: Row) -> Held:
        """Check the flushed bytes of the update that has this row in the table."""
