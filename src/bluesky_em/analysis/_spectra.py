"""Spectra: frames whose last dimension is energy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def check(frames: NDArray, energy: Floats) -> None:
    """Check that frames match their energies, and that energies ascend.

    Raises:
        ValueError: they do not; the message has both shapes.
    """
    if energy.ndim != 1 or frames.shape[-1:] != energy.shape:
        raise ValueError(
            f"frames of shape {frames.shape} do not match energies of shape {energy.shape}; "
            "the last dimension of the frames must be that of the energies"
        )
    if len(energy) < 3 or not energy[0] < energy[-1] or not np.isfinite(energy).all():
        raise ValueError(
            f"energies must ascend over at least three channels, without NaN, not {energy}"
        )
