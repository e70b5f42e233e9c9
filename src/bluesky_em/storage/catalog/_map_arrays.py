"""An array in Tiled whose rows are the points of maps: `(lines, points, *frame)`."""

from __future__ import annotations

from math import prod
from typing import Any

from bluesky_em.files.tiled.row_map import RowMap
from bluesky_em.frame import Frame

from ._one_file_consolidator import OneFileConsolidator
from ._plugins import Patch


class MapRowMap(RowMap):
    """A row map of maps, in which a row is a point.

    It adds an entry `points`, the number of points of each line. How many rows have been taken is
    in the properties of the data source, `rows`: the array has all lines from the beginning.

    Args:
        points: of each line.
    """

    def __init__(self, points: int):
        super().__init__()
        self.points = points
        self.lines = 0
        """lines of all passes so far, also those that have not been taken"""

    def add(self, frame: Frame, descriptor: int = 0) -> None:
        """Add the rows of a block of frames."""
        super().add(frame, descriptor)
        self.lines = max(self.lines, frame.end_row // self.points)

    @property
    def size(self) -> dict[str, int]:
        """Number of entries that have been described, and of rows; never decreases."""
        return {**super().size, "rows": self._rows}

    def dump(self) -> dict[str, Any]:
        """Return the metadata that Tiled keeps under `KEY`."""
        return {**super().dump(), "points": self.points}


class MapConsolidator(OneFileConsolidator):
    """Describes the current state of the array to Tiled.

    Args:
        stream_resource: of the file.
        descriptor: of the stream.
        rows: the frames so far; more are added later.
        dims: names of the array's dimensions.
    """

    def __init__(
        self, stream_resource: Any, descriptor: Any, rows: MapRowMap, dims: tuple[str, ...]
    ):  # fmt: skip
        super().__init__(stream_resource, descriptor)
        self._map, self.dims = rows, dims
        # the parent takes one value in a list for a scalar
        self.datum_shape = tuple(descriptor["data_keys"][self.data_key]["shape"])
        line = prod(self.datum_shape) * self.data_type.to_numpy_dtype().itemsize
        self.divide(line)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array; the parent would have the lines that were taken."""
        return self._map.lines, *self.datum_shape

    def consume_stream_datum(self, doc: Any) -> Patch:
        """Return which lines have changed."""
        first = doc["indices"]["start"] // self._map.points
        stop = -(-doc["indices"]["stop"] // self._map.points)
        inner = self.datum_shape
        return Patch(offset=(first, *[0] * len(inner)), shape=(stop - first, *inner))
