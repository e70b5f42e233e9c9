"""Numbers that describe a frame, so that a plan need not wait for the frame.

Python 3.7 syntax and NumPy only: this runs on the instrument PC, at each exposure.
"""

from __future__ import annotations

import math
from typing import Any, Dict, Mapping

import numpy as np

from .exposure import Exposure
from .protocol import THUMBNAIL
from .zero_loss import find_zero_loss


def summarise(exposure: Exposure, thumbnail: bool = False) -> Dict[str, Any]:
    """Return numbers that describe a frame; NaN where one cannot be known.

    Args:
        exposure: of one frame.
        thumbnail: include one.

    Returns:
        `total`, `mean`, `max` (counts); `saturation_fraction`, 0 to 1, from the driver's metadata,
        else the fraction of an unsigned integer frame's pixels at the largest value of its dtype;
        of spectra, the `zero_loss` peak's position (eV); `thumbnail`, `THUMBNAIL` means over equal
        parts of a spectrum, or over 8 x 8 blocks of an image, row by row.
    """
    array = exposure.array
    total = float(array.sum(dtype=np.float64))  # the frame's own type would overflow
    summary = {
        "total": total,
        "mean": total / array.size,
        "max": float(array.max()),
        "saturation_fraction": _saturation_fraction(exposure),
    }  # type: Dict[str, Any]
    if array.ndim == 1 and exposure.axes[0]["units"] == "eV":
        summary["zero_loss"] = _zero_loss(array, exposure.axes[0])
    if thumbnail:
        summary["thumbnail"] = _thumbnail(array).tolist()
    return summary


def _saturation_fraction(exposure: Exposure) -> float:
    array = exposure.array
    if "saturation_fraction" in exposure.metadata:
        return float(exposure.metadata["saturation_fraction"])
    if array.dtype.kind != "u":
        return math.nan  # its pixels do not show where such a detector saturates
    return float(np.count_nonzero(array == np.iinfo(array.dtype).max) / array.size)


def _zero_loss(spectrum: np.ndarray, axis: Mapping[str, Any]) -> float:
    energy = axis["offset"] + axis["scale"] * np.arange(len(spectrum))
    return float(find_zero_loss(spectrum, energy))


def _thumbnail(array: np.ndarray) -> np.ndarray:
    if array.size < THUMBNAIL:
        pixels = array.reshape(-1).astype(np.float64)
        return np.append(pixels, np.full(THUMBNAIL - array.size, np.nan))
    if array.ndim == 2:
        return _means(_means(array, 8).T, 8).T.reshape(-1)
    return _means(array.reshape(-1), THUMBNAIL)


def _means(array: np.ndarray, parts: int) -> np.ndarray:
    """Average over this number of equal parts of the last axis; repeat pixels of a short axis."""
    size = array.shape[-1]
    begins = np.arange(parts) * size // parts
    widths = np.maximum(np.diff(np.append(begins, size)), 1)
    return np.add.reduceat(array, begins, axis=-1, dtype=np.float64) / widths
