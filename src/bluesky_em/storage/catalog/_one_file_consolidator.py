"""Description of an array in one file whose shape does not come from stream datums."""

from __future__ import annotations

from typing import Any, Self

from ._plugins import HDF5Consolidator

CHUNK_BYTES = 4 << 20  # bytes of a chunk, which a client reads with one request


class OneFileConsolidator(HDF5Consolidator):
    """Describes an array in one file to Tiled."""

    def __new__(cls, *args: Any) -> Self:
        """Create one; the parent would create one for several files."""
        return object.__new__(cls)

    def divide(self, nbytes: int) -> None:
        """Divide the array along its first dimension into chunks.

        Args:
            nbytes: size of one index of that dimension, bytes.
        """
        self.chunk_shape = (max(1, CHUNK_BYTES // nbytes),)
