"""An array of scan lines, used as an array of their points."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np


class MapRows:
    """An array of shape `(lines, points, *frame)`, of which a row is a point: `(rows, *frame)`.

    Args:
        array: has `shape` and `dtype`, and slicing reads from it (and writes to it).
    """

    def __init__(self, array: Any):
        self._array = array
        self._points = array.shape[1]
        self.dtype: np.dtype = np.dtype(array.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of points, then the shape of a frame."""
        lines, points, *frame = self._array.shape
        return lines * points, *frame

    @property
    def lines(self) -> int:
        """Number of lines."""
        return self._array.shape[0]

    @property
    def ndim(self) -> int:
        """Number of dimensions of `shape`."""
        return len(self._array.shape) - 1

    def __getitem__(self, index: int | slice | tuple[slice, ...]) -> np.ndarray:
        """Read a row, consecutive rows, or a region of them."""
        if isinstance(index, (int, np.integer)):
            return self[index : index + 1][0]
        rows, *inner = index if isinstance(index, tuple) else (index,)
        start, stop, _ = rows.indices(self.shape[0])
        first, last = start // self._points, -(-stop // self._points)
        lines = np.asarray(self._array[(slice(first, max(first, last)), slice(None), *inner)])
        flat = lines.reshape(-1, *lines.shape[2:])
        return flat[start - first * self._points : max(start, stop) - first * self._points]

    def __setitem__(self, rows: slice, values: np.ndarray) -> None:
        """Write consecutive rows."""
        done = 0
        for lines, columns in self.parts(rows.start, rows.stop):
            shape = lines.stop - lines.start, columns.stop - columns.start
            part = values[done : done + shape[0] * shape[1]]
            self._array[lines, columns] = part.reshape(*shape, *values.shape[1:])
            done += len(part)

    def resize(self, rows: int, axis: int = 0) -> None:
        """Resize an HDF5 dataset to the lines of that many rows."""
        self._array.resize(-(-rows // self._points), axis=axis)

    def parts(self, start: int, stop: int) -> Iterator[tuple[slice, slice]]:
        """Yield lines and columns of the rectangles that consecutive rows form."""
        while start < stop:
            line, column = divmod(start, self._points)
            whole = (stop - start) // self._points if column == 0 else 0
            end = self._points if whole else min(self._points, column + stop - start)
            yield slice(line, line + max(1, whole)), slice(column, end)
            start += max(1, whole) * (end - column)
