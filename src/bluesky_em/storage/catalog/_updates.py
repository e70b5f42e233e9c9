"""An array in Tiled that updates change, instead of each frame adding a row."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from tiled.structures.array import BuiltinDtype

from bluesky_em.axes import axes_of_array
from bluesky_em.files.hdf5.updates import Extent
from bluesky_em.files.tiled.row_map import RowMap
from bluesky_em.frame import Frame
from bluesky_em.update_modes import UpdateDeclaration, UpdateMode

from ._one_file_consolidator import OneFileConsolidator
from ._plugins import Patch


class UpdateMap(RowMap):
    """A row map of updates, in which a row is an update's number; every update changes it.

    It adds an entry `update`: the stream's declaration, `count` (number of catalogued updates) and
    `values`: checksum and index of each update that can still be read separately. In mode
    `replace` that is the newest only, since Tiled shows no other; in mode `accumulate` none.

    Args:
        first: a frame of the stream.
    """

    def __init__(self, first: Frame):
        super().__init__()
        assert first.update is not None, "a frame without an update belongs in a RowMap"
        self.extent = Extent(UpdateDeclaration.load(first.update))
        self.axes = axes_of_array(first.scan, first.axes, len(self.extent.declared.shape))
        self._count = 0
        self._values: dict[str, dict[str, Any]] = {}

    def add(self, frame: Frame, descriptor: int = 0) -> None:
        """Add the next update."""
        super().add(frame, descriptor)
        self._count = frame.row + 1
        self._changed = True
        if str(frame.row) in self.failed:
            return
        self.extent.add(frame.shape, frame.index)
        mode = self.extent.declared.mode
        if mode is UpdateMode.REPLACE:
            self._values.clear()
        if mode is not UpdateMode.ACCUMULATE:
            self._values[str(frame.row)] = {"checksum": frame.checksum, "index": frame.index}

    def dump(self) -> dict[str, Any]:
        """Return the metadata that Tiled keeps under `KEY`."""
        declared = self.extent.declared.dump()
        update = {**declared, "count": self._count, "values": self._values}
        return {**super().dump(), "update": update}


class UpdatesConsolidator(OneFileConsolidator):
    """Describes the current state of the array to Tiled.

    Args:
        stream_resource: of the file.
        descriptor: of the stream.
        updates: the updates so far; more are added later.
        dims: names of the array's dimensions.
    """

    def __init__(
        self, stream_resource: Any, descriptor: Any, updates: UpdateMap, dims: tuple[str, ...]
    ):  # fmt: skip
        super().__init__(stream_resource, descriptor)
        self._extent = updates.extent
        declared = updates.extent.declared
        total = declared.mode is UpdateMode.ACCUMULATE
        dtype = declared.sum_dtype if total else np.dtype(declared.dtype)
        self.data_type = BuiltinDtype.from_numpy_dtype(dtype)
        self.dims = dims
        row = prod(size or 1 for size in declared.shape[1:]) * dtype.itemsize
        self.divide(row)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array; the parent would concatenate rows."""
        return self._extent.shape

    def consume_stream_datum(self, doc: Any) -> Patch:
        """Return which part of the array has changed."""
        offset, shape = self._extent.changed()
        return Patch(offset=offset, shape=shape)
