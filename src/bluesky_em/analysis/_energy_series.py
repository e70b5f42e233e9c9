"""Series of spectra at several energy offsets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ._spectra import Floats


def merge(spectra: Sequence[tuple[Floats, NDArray, float]]) -> tuple[Floats, Floats]:
    """Merge spectra of several energy offsets into one.

    Args:
        spectra: for each its energies in eV, ascending, its counts, and its exposure in s.

    Returns:
        Energies from the lowest to the highest, in steps of the finest spectrum, and counts per
        second. Where spectra overlap, this is the sum of their counts over the sum of their
        exposures; NaN in gaps.

    Raises:
        ValueError: `spectra` is empty.
    """
    if not spectra:
        raise ValueError("there is no spectrum to merge")
    step = min(float(energy[1] - energy[0]) for energy, _, _ in spectra)
    low = min(float(energy[0]) for energy, _, _ in spectra)
    high = max(float(energy[-1]) for energy, _, _ in spectra)
    grid = low + step * np.arange(round((high - low) / step) + 1)
    counts, seconds = np.zeros(len(grid)), np.zeros(len(grid))
    for energy, values, exposure in spectra:
        per_step = step / float(energy[1] - energy[0])
        here = (grid >= energy[0] - step / 2) & (grid <= energy[-1] + step / 2)
        counts[here] += per_step * np.interp(grid[here], energy, values)
        seconds[here] += exposure
    with np.errstate(invalid="ignore"):
        return grid, counts / seconds
