"""Reading of the growing file of one detector's frames in one run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bluesky_em.documents import DATASET
from bluesky_em.files.map_rows import MapRows

from ._frames_file import FRAMES
from ._raw_bytes import open_to_read
from ._scan_datasets import GROUP


class FramesReader:
    """Reads frames from a file, also while it grows.

    Args:
        path: a file of `FramesFile`.
    """

    def __init__(self, path: Path):
        self._file = open_to_read(path)

    @property
    def points(self) -> int:
        """Number of points of each line of a map; 0 if the frames are no map."""
        return int(self._file["entry"].attrs.get("points", 0))

    def read(self, row: int | tuple[slice, ...]) -> np.ndarray:
        """Read the pixels of one row, with shape and dtype of a frame; or a region of all rows."""
        return self._rows[row]

    def region(self, region: tuple[slice, ...]) -> np.ndarray:
        """Read a region of the dataset, in which a map has lines and points."""
        return self._get(DATASET)[region]

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, then the shape of a frame."""
        return self._rows.shape

    @property
    def dtype(self) -> np.dtype:
        """Dtype of the whole array."""
        return self._get(DATASET).dtype

    def rows(self, first: int, count: int) -> np.ndarray:
        """Read the pixels of several rows, shape `(count, *frame)`."""
        return self._rows[first : first + count]

    @property
    def owner(self) -> str:
        """Owner of the frames, `<run>/<stream>/<detector>`."""
        return str(self._file["entry"].attrs["owner"])

    def axes(self) -> dict[str, tuple[np.ndarray, str]]:
        """Return values and units of each axis of a frame, by name."""
        return self._axes(slice(2 if self.points else 1, None))

    def scan_axes(self) -> dict[str, tuple[np.ndarray, str]]:
        """Return values and units of the lines and columns of a map, by name."""
        return self._axes(slice(2 if self.points else 0))

    def columns(self) -> dict[str, np.ndarray]:
        """Return the columns of `/entry/frames`, one value per row."""
        return {name: column[()] for name, column in self._get(FRAMES).items()}

    def numbers(self) -> list[int]:
        """Return the exposure number of each row; -1 where a frame was lost."""
        return [int(number) for number in self._get(f"{FRAMES}/number")[:]]

    def row_of(self, number: int) -> int:
        """Return the row of a detector's exposure `number`.

        Raises:
            LookupError: that frame is not in this file.
        """
        rows = np.flatnonzero(self._get(f"{FRAMES}/number")[:] == number)
        if not len(rows):
            raise LookupError(f"{self._file.filename} holds no frame with number {number}")
        return int(rows[0])

    def close(self) -> None:
        """Close the file. Closing twice is harmless."""
        self._file.close()

    def __enter__(self) -> FramesReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def _rows(self) -> Any:
        dataset = self._get(DATASET)
        return MapRows(dataset) if self.points else dataset

    def _axes(self, which: slice) -> dict[str, tuple[np.ndarray, str]]:
        group = self._get(GROUP)
        return {
            name: (group[name][()], str(group[name].attrs["units"]))
            for name in group.attrs.get("axes", ())[which]
            if name in group
        }

    def _get(self, name: str) -> Any:
        return self._file[name]
