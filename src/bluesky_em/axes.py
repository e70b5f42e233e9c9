"""The calibrated axes of a frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One dimension of a frame: value_i = offset + scale * i.

    >>> Axis(name="energy", units="eV", offset=-100.0, scale=0.5, size=4).values
    array([-100. ,  -99.5,  -99. ,  -98.5])
    """

    name: str
    """e.g. `energy`, `y`, `x`"""
    units: str
    """e.g. `eV`, `m`; empty when not calibrated"""
    offset: float
    """Value at index 0, in `units`."""
    scale: float
    """Step from one index to the next, in `units`."""
    size: int
    """Number of indices."""

    @property
    def values(self) -> np.ndarray:
        """All values, shape `(size,)`, dtype `<f8`."""
        return self.offset + self.scale * np.arange(self.size)

    @classmethod
    def load(cls, fields: Mapping[str, Any]) -> Axis:
        """Create an axis from the dict that documents and acquisition servers carry."""
        return cls(
            name=str(fields["name"]),
            units=str(fields["units"]),
            offset=float(fields["offset"]),
            scale=float(fields["scale"]),
            size=int(fields["size"]),
        )


def axes_of_array(scan: Sequence[Axis], frame: Sequence[Axis], dimensions: int) -> tuple[Axis, ...]:
    """Return the axes of the single array that a stream's frames update.

    Args:
        scan: axes of the map; empty if the frames are not a map.
        frame: axes of a frame.
        dimensions: of the array.

    Returns:
        The leading axes of the map, then the frame's axes; empty if they do not fit the array.
    """
    axes = (*scan[: max(0, dimensions - len(frame))], *frame)
    return axes if len(axes) == dimensions else ()
