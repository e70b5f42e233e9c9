"""Where the zero-loss peak is, and spectra with it at 0 eV."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ._spectra import Floats, check

REACH = 3.0  # eV on both sides of the highest channel, in which the peak is fitted


def zero_loss(
    frames: NDArray, energy: Floats, *, within: tuple[float, float] | None = None
) -> NDArray[np.float64]:
    """Find the zero-loss peak to a fraction of a channel.

    A Gaussian fitted to the part above half of the maximum, at least three channels: a parabola
    through the logarithm of the counts, weighted with their squares (H. Guo, IEEE Signal
    Processing Magazine 28 (2011) 134, without its iteration). Only the top counts, so tails and
    losses do not pull.

    Args:
        frames: counts, shape `(..., energy)`.
        energy: of each channel, in eV, shape `(energy,)`, in equal steps.
        within: energies in eV between which the highest channel is the zero loss; everywhere
            unless told. A thick specimen's plasmon can be higher.

    Returns:
        Energies in eV, shape `(...)`; NaN where the highest channel is the first or last one
        searched, or not above 0, or on no peak.

    Raises:
        ValueError: the energies do not fit the frames, or do not reach 0 eV or into `within`.
    """
    check(frames, energy)
    low, high = within or (energy[0], energy[-1])
    searched = (energy >= low) & (energy <= high)
    if not searched.any() or (within is None and not low <= 0 <= high):
        raise ValueError(
            f"no zero-loss peak is looked for {f'from {low:g} to {high:g}' if within else 'at 0'} "
            f"eV in spectra that go from {energy[0]:g} to {energy[-1]:g} eV"
        )
    step = _step(energy)
    top = np.where(searched & ~np.isnan(frames), frames, -np.inf).argmax(axis=-1)
    reach = max(1, round(REACH / step))
    offset = np.arange(-reach, reach + 1)
    channel = top[..., None] + offset
    inside = (channel >= 0) & (channel < len(energy))
    counts = np.take_along_axis(frames, np.where(inside, channel, 0), axis=-1).astype(np.float64)
    height = counts[..., reach, None]
    fitted = inside & ((counts > height / 2) | (abs(offset) <= 1))
    counts = np.fmax(counts, 1e-3 * height)  # no logarithm of 0, nor NaN
    with np.errstate(divide="ignore", invalid="ignore"):
        place = _vertex(offset, np.log(counts), np.where(fitted, counts**2, 0.0))
    first, last = np.flatnonzero(searched)[[0, -1]]
    found = (first < top) & (top < last) & (abs(place) <= reach)
    return np.where(found, energy[top] + step * place, np.nan)


def align_zero_loss(
    frames: NDArray, energy: Floats, *, within: tuple[float, float] | None = None
) -> Floats:
    """Shift each spectrum so that its zero-loss peak is at 0 eV.

    Counts between two channels are interpolated linearly, which smooths noise and widens the peak
    a little. `zero_loss` says what counts as the peak, and what `within` is.

    Args:
        frames: counts, shape `(..., energy)`.
        energy: of each channel, in eV, shape `(energy,)`, in equal steps.
        within: energies in eV between which the peak is looked for.

    Returns:
        Counts at the same energies, shape of `frames`, dtype `<f4` or `<f8` as in
        `subtract_dark`; NaN in channels for which nothing was measured, and in all of a spectrum
        without a peak.

    Raises:
        ValueError: as `zero_loss`.
    """
    moved = zero_loss(frames, energy, within=within)[..., None] / _step(energy)
    last = len(energy) - 1
    place = np.arange(len(energy)) + moved
    measured = (place >= 0) & (place <= last)
    left = np.where(measured, place, 0).astype(np.intp)
    frames = frames.astype(np.result_type(frames.dtype, np.float32), copy=False)
    part = (place - left).astype(frames.dtype)
    counts = (1 - part) * np.take_along_axis(frames, left, axis=-1)
    counts += part * np.take_along_axis(frames, np.minimum(left + 1, last), axis=-1)
    return np.where(measured, counts, frames.dtype.type(np.nan))


def _step(energy: Floats) -> float:
    return float(energy[-1] - energy[0]) / (len(energy) - 1)


def _vertex(x: NDArray, y: Floats, weight: Floats) -> Floats:
    """Give the place of the maximum of parabolas fitted along the last axis; NaN for a minimum.

    Least squares with polynomials that are orthogonal under the weights: no system to solve.
    """
    total = weight.sum(axis=-1, keepdims=True)
    mean = (weight * x).sum(axis=-1, keepdims=True) / total
    line = x - mean
    square, cube = ((weight * line**n).sum(axis=-1, keepdims=True) for n in (2, 3))
    bow = line**2 - cube / square * line - square / total
    slope = (weight * line * y).sum(axis=-1, keepdims=True) / square
    curvature = (weight * bow * y).sum(axis=-1) / (weight * bow**2).sum(axis=-1)
    vertex = (mean + cube / square / 2)[..., 0] - slope[..., 0] / (2 * curvature)
    return np.where(curvature < 0, vertex, np.nan)
