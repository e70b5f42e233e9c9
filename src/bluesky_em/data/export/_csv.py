"""One spectrum as a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ._selection import Selection


def write_csv(selection: Selection, path: Path) -> None:
    """Write two columns, e.g. `energy_eV` and `counts`, with a line of these names.

    Raises:
        ValueError: it is not one spectrum.
    """
    array = selection.array
    if array.ndim != 1:
        shape = dict(array.sizes)
        raise ValueError(
            f"csv holds one spectrum, and {selection.detector} has {shape} here: export hspy, or "
            "one reference, e.g. `bluesky-em export <run uid>.eels/0 --format csv`"
        )
    axis = array[array.dims[0]]
    table = np.column_stack([axis.values, array.values])
    values = selection.units or selection.detector
    names = f"{axis.name}_{axis.attrs['units']},{values}"
    np.savetxt(path, table, fmt="%.10g", delimiter=",", header=names, comments="")
