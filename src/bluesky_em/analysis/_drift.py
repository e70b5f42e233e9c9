"""The shift between two images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ._spectra import Floats


def shift(reference: NDArray, image: NDArray) -> tuple[float, float]:
    """Return how far an image has moved, by cross-correlation.

    Args:
        reference: shape `(rows, cols)`.
        image: a later image of the same place, same shape.

    Returns:
        Rows and columns by which the contents of `reference` have moved in `image`, to a fraction
        of a pixel; at most half of the image.

    Raises:
        ValueError: the shapes differ.
    """
    if reference.shape != image.shape:
        raise ValueError(f"images of shapes {reference.shape} and {image.shape} cannot be compared")
    window = np.outer(*(np.hanning(size) for size in reference.shape))
    one, other = ((each - each.mean()) * window for each in (reference, image))
    product = np.fft.rfft2(other) * np.conj(np.fft.rfft2(one))
    correlation = np.fft.irfft2(product, reference.shape)
    peak = np.unravel_index(np.argmax(correlation), correlation.shape)
    moved = [_refined(correlation, peak, axis) for axis in (0, 1)]
    return moved[0], moved[1]


def _refined(correlation: Floats, peak: tuple[np.intp, ...], axis: int) -> float:
    """Return the position of a peak along an axis, by a parabola through three pixels."""
    size = correlation.shape[axis]
    along = np.take(correlation, peak[1 - axis], axis=1 - axis)
    left, middle, right = (along[(int(peak[axis]) + n) % size] for n in (-1, 0, 1))
    curvature = left - 2 * middle + right
    place = float(peak[axis]) + (0.5 * float(left - right) / float(curvature) if curvature else 0)
    return place - size if place > size / 2 else place
