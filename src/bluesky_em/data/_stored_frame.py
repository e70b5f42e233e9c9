"""A frame that can be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray

from bluesky_em.axes import Axis
from bluesky_em.reference import Reference


@dataclass(frozen=True, kw_only=True)
class StoredFrame:
    """What `data.open(reference)` gives: everything but the pixels, which `read()` gets."""

    reference: str
    axes: tuple[Axis, ...]
    """One per dimension, calibrated, e.g. energy in eV."""
    metadata: dict[str, Any]
    """`start`: the run's start document; `configuration`: of the detectors, from the descriptor;
    `frame`: what the driver said of the exposure (only where the storage folder is at hand)."""
    _read: Callable[[], np.ndarray]

    def read(self) -> np.ndarray:
        """Read the pixels, as the acquisition server exposed them: shape and dtype of the frame."""
        return self._read()

    def to_xarray(self) -> xarray.DataArray:
        """Read the pixels as a DataArray with calibrated, named coordinates."""
        return xarray.DataArray(
            self.read(),
            dims=[axis.name for axis in self.axes],
            coords={a.name: (a.name, a.values, {"units": a.units}) for a in self.axes},
            name=Reference.parse(self.reference).detector,
            attrs={"reference": self.reference, "units": "counts"},
        )
