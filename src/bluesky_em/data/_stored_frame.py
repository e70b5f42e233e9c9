"""A stored frame, open for reading."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import xarray

from bluesky_em.axes import Axis
from bluesky_em.reference import Reference


@dataclass(frozen=True, kw_only=True, repr=False)
class StoredFrame:
    """A frame as `data.open(reference)` returns it; `read()` reads its pixels."""

    reference: str
    axes: tuple[Axis, ...]
    """One per dimension, calibrated, e.g. energy in eV."""
    metadata: dict[str, Any]
    """`start`: the run's start document; `configuration`: of the detectors, from the descriptor;
    `frame`: the driver's values about the exposure (only from a storage folder)."""
    _read: Callable[[], np.ndarray]

    def __repr__(self) -> str:
        axes = ", ".join(f"{axis.name} {_range(axis)}" for axis in self.axes)
        return f"<StoredFrame {self.reference}: {axes}>"

    def _repr_html_(self) -> str:
        """Return a table for notebooks: axes, and facts about the exposure; reads no pixels."""
        facts = self.metadata.get("frame", {})
        shown = {key: value for key, value in facts.items() if isinstance(value, (str, int, float))}
        rows = [(axis.name, _range(axis)) for axis in self.axes] + [*shown.items()]
        cells = "".join(
            f"<tr><td>{escape(str(key))}</td><td>{escape(str(value))}</td></tr>"
            for key, value in rows
        )
        return f"<table><caption>{escape(self.reference)}</caption>{cells}</table>"

    def read(self) -> np.ndarray:
        """Read the pixels, with the shape and dtype that the acquisition server recorded."""
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


def _range(axis: Axis) -> str:
    last = axis.offset + axis.scale * (axis.size - 1)
    return f"{axis.offset:g} to {last:g} {axis.units}".rstrip() + f" ({axis.size})"
