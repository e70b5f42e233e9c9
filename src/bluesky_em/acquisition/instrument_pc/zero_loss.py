"""The position of the zero-loss peak, for event summaries and for analysis.

Python 3.7 syntax and NumPy only: this runs on the instrument PC, at each exposure.
"""

from __future__ import annotations

from typing import Optional, Tuple

import numpy as np

SEARCH_RANGE = (-20.0, 20.0)  # eV
FIT_RANGE = 3.0  # eV on both sides of the highest channel
SIGNIFICANCE_LIMIT = 8.0  # least height of a peak, in standard deviations of the noise
MIN_NOISE_CHANNELS = 32  # fewer channels do not show what the noise is
NOISE_PER_MEDIAN = 1.05  # standard deviation of normal noise / median of absolute differences


def find_zero_loss(
    frames: np.ndarray, energy: np.ndarray, within: Optional[Tuple[float, float]] = None
) -> np.ndarray:
    """Return the position of the zero-loss peak, to a fraction of a channel.

    A Gaussian is fitted to the part above half of the maximum, at least three channels: a parabola
    through the logarithm of the counts, weighted with their squares (H. Guo, IEEE Signal
    Processing Magazine 28 (2011) 134, without its iteration). Only the top of the peak counts, so
    its tails and the losses beside it do not shift the result.

    Args:
        frames: counts, shape `(..., energy)`, any real dtype; NaN is ignored.
        energy: of each channel, in eV, shape `(energy,)`, in equal steps.
        within: the range in eV in which the whole upper half of the peak must lie; None:
            `SEARCH_RANGE`, if 0 eV is on the axis.

    Returns:
        Energies in eV, shape `(...)`, `<f8`. NaN where there is no peak: fewer than three channels
        in the range, no counts above 0, counts that do not fall to half of the maximum on both
        sides within the range, or a maximum that does not stand out of the noise.
    """
    if not np.isfinite(energy).all() or (len(energy) > 1 and energy[0] == energy[-1]):
        return np.full(frames.shape[:-1], np.nan)  # no calibration
    low, high = within or SEARCH_RANGE
    searched = np.flatnonzero((energy >= low) & (energy <= high))
    nothing = np.full(frames.shape[:-1], np.nan)
    if len(searched) < 3 or (within is None and energy[0] * energy[-1] > 0):
        return nothing
    part = slice(searched[0], searched[-1] + 1)
    energy, counts = energy[part], frames[..., part].astype(np.float64)
    top = np.where(np.isnan(counts), -np.inf, counts).argmax(axis=-1)
    height = np.take_along_axis(counts, top[..., None], axis=-1)
    found = _is_peak(counts, top, height)
    if not found.any():
        return nothing
    step = float(energy[-1] - energy[0]) / (len(energy) - 1)
    place = _fit(counts, top, height, max(1, int(round(FIT_RANGE / abs(step)))))
    return np.where(found, energy[top] + step * place, np.nan)


def _is_peak(counts: np.ndarray, top: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Return whether counts fall to half on both sides, and the maximum is above the noise."""
    channel = np.arange(counts.shape[-1])
    with np.errstate(invalid="ignore"):
        low = (counts <= height / 2) & (height > 0)
        is_peak = (low & (channel < top[..., None])).any(axis=-1)
        is_peak &= (low & (channel > top[..., None])).any(axis=-1)
        if len(channel) < MIN_NOISE_CHANNELS:
            return is_peak
        # without noise, counts rise and fall slowly: the medians are those of the other channels
        noise = NOISE_PER_MEDIAN * _median(np.abs(np.diff(counts, axis=-1)))
        return is_peak & ~(height[..., 0] - _median(counts) < SIGNIFICANCE_LIMIT * noise)


def _median(values: np.ndarray) -> np.ndarray:
    """Return the median of the last axis without NaN; `np.nanmedian` warns where all are NaN."""
    number = np.count_nonzero(~np.isnan(values), axis=-1)[..., None]
    ascending = np.sort(values, axis=-1)  # NaN last
    middle = np.concatenate([np.maximum(number - 1, 0) // 2, number // 2], axis=-1)
    return np.take_along_axis(ascending, middle, axis=-1).mean(axis=-1)


def _fit(counts: np.ndarray, top: np.ndarray, height: np.ndarray, reach: int) -> np.ndarray:
    """Return where the peak is, in channels from the highest one; NaN where the fit fails."""
    offset = np.arange(-reach, reach + 1)
    channel = top[..., None] + offset
    inside = (channel >= 0) & (channel < counts.shape[-1])
    counts = np.take_along_axis(counts, np.where(inside, channel, 0), axis=-1)
    fitted = inside & ((counts > height / 2) | (np.abs(offset) <= 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        counts = np.fmax(counts, 1e-3 * height)  # no logarithm of 0 or NaN
        place = _vertex(offset, np.log(counts), np.where(fitted, counts**2, 0.0))
        return np.where(np.abs(place) <= reach, place, np.nan)


def _vertex(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the maxima of parabolas fitted along the last axis; NaN for a minimum.

    Least squares with polynomials that are orthogonal under the weights: no system to solve.
    """
    total = weight.sum(axis=-1, keepdims=True)
    mean = (weight * x).sum(axis=-1, keepdims=True) / total
    linear = x - mean
    square, cube = ((weight * linear**n).sum(axis=-1, keepdims=True) for n in (2, 3))
    quadratic = linear**2 - cube / square * linear - square / total
    slope = (weight * linear * y).sum(axis=-1, keepdims=True) / square
    curvature = (weight * quadratic * y).sum(axis=-1) / (weight * quadratic**2).sum(axis=-1)
    vertex = (mean + cube / square / 2)[..., 0] - slope[..., 0] / (2 * curvature)
    return np.where(curvature < 0, vertex, np.nan)
