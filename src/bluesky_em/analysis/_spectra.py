"""Spectra: frames whose last dimension is energy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def check(frames: NDArray, energy: Floats) -> None:
    """Refuse frames whose last dimension is not this energy, or an energy that does not ascend.

    Raises:
        ValueError: says both shapes.
    """
    if energy.ndim != 1 or frames.shape[-1:] != energy.shape:
        raise ValueError(
            f"frames of shape {frames.shape} do not fit energies of shape {energy.shape}; "
            "the last dimension of the frames is to be the one of the energies"
        )
    if len(energy) < 3 or energy[0] >= energy[-1]:
        raise ValueError(f"energies are to ascend over three channels at least, not {energy}")
