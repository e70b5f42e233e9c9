"""Shape of the array of a stream, computed from its updates without opening the file."""

from __future__ import annotations

import numpy as np

from bluesky_em.update_modes import UpdateDeclaration, UpdateMode


class Extent:
    """Shape of the array that updates make, and the part of it that has changed.

    Args:
        declared: how they become one array.
    """

    def __init__(self, declared: UpdateDeclaration):
        self.declared = declared
        self._end = np.zeros(len(declared.shape), int)
        self._low, self._high = self._end, self._end

    def add(self, shape: tuple[int, ...], index: tuple[int, ...] | None) -> None:
        """Add an update that is in the array, with its shape and index."""
        axes = len(self._end)
        start = np.array(index or [0] * axes)
        end = start + ([1] * (axes - len(shape)) + list(shape))
        is_first = not self._high.any()
        self._low = start if is_first else np.minimum(self._low, start)
        self._high = np.maximum(self._high, end)
        self._end = np.maximum(self._end, end)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the dataset in the file: an axis that grows ends with the last update."""
        grows = self.declared.mode is UpdateMode.ADD_SLICE
        return tuple(
            int(end) if size is None or (grows and axis == 0) else size
            for axis, (size, end) in enumerate(zip(self.declared.shape, self._end, strict=True))
        )

    def changed(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return offset and shape of a box around all updates since the last call."""
        low, high = self._low, self._high
        self._low = self._high = np.zeros_like(self._end)
        return tuple(int(a) for a in low), tuple(int(n) for n in high - low)
