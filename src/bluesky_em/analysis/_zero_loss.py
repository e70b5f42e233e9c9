"""The position of the zero-loss peak, and its alignment to 0 eV."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bluesky_em.acquisition.instrument_pc.zero_loss import find_zero_loss

from ._spectra import Floats, check


def zero_loss(
    frames: NDArray, energy: Floats, *, within: tuple[float, float] | None = None
) -> NDArray[np.float64]:
    """Return the position of the zero-loss peak, to a fraction of a channel.

    Events have the same number, `<spectrometer>-zero_loss`: it is computed by the same function. A
    Gaussian is fitted to the part above half of the maximum (H. Guo, IEEE Signal Processing
    Magazine 28 (2011) 134), so tails and losses do not shift the result.

    Args:
        frames: counts, shape `(..., energy)`.
        energy: of each channel, in eV, shape `(energy,)`, in equal steps.
        within: the range in eV in which the highest peak is the zero loss; by default from -20 to
            20 eV. Make it narrower for a thick specimen, whose plasmon can be higher, and wider
            for a spectrometer that is not aligned.

    Returns:
        Energies in eV, shape `(...)`; NaN where no peak stands out of the noise, or the counts do
        not fall to half of the maximum on both sides within the range.

    Raises:
        ValueError: the energies do not match the frames, or do not reach 0 eV or `within`.
    """
    check(frames, energy)
    low, high = within or (0.0, 0.0)
    if energy[-1] < low or energy[0] > high:
        raise ValueError(
            f"there is no zero loss {f'from {low:g} to {high:g}' if within else 'at 0'} eV in "
            f"spectra that cover {energy[0]:g} to {energy[-1]:g} eV"
        )
    return find_zero_loss(frames, energy, within)


def align_zero_loss(
    frames: NDArray, energy: Floats, *, within: tuple[float, float] | None = None
) -> Floats:
    """Shift each spectrum so that its zero-loss peak is at 0 eV.

    Counts between two channels are interpolated linearly, which smooths noise and widens the peak
    a little. See `zero_loss` for the peak and for `within`.

    Args:
        frames: counts, shape `(..., energy)`.
        energy: of each channel, in eV, shape `(energy,)`, in equal steps.
        within: the range in eV of the peak.

    Returns:
        Counts at the same energies, shape of `frames`, dtype `<f4` or `<f8` as in
        `subtract_dark`; NaN in channels that were not measured, and in all channels of a
        spectrum without a peak.

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
