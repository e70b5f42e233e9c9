"""Subtraction of dark frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ._spectra import Floats


def subtract_dark(frames: NDArray, dark: NDArray) -> Floats:
    """Subtract a dark frame from spectra or images.

    Args:
        frames: counts, shape `(..., energy)` or `(..., y, x)`, any real dtype.
        dark: counts, shape of one frame, `(energy,)` or `(y, x)`, or of more of the last
            dimensions of `frames`; of the same exposure and binning, which is not checked.

    Returns:
        Shape of `frames`; `<f4` if it represents both exactly (up to 16 bits, or `<f4`),
        otherwise `<f8`; no value wraps around 0.

    Raises:
        ValueError: the shape of the dark differs from the last dimensions of the frames.
    """
    if not dark.ndim or dark.shape != frames.shape[-dark.ndim :]:
        raise ValueError(
            f"a dark of shape {dark.shape} does not fit frames of shape {frames.shape}; "
            "it must have the shape of their last dimensions"
        )
    dtype = np.result_type(frames.dtype, dark.dtype, np.float32)
    return np.subtract(frames, dark, dtype=dtype)
