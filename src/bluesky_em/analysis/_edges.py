"""Ionisation edges and the background under them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ._spectra import Floats, check

FIT_FROM = 60.0  # eV below an edge, where the background fit begins
FIT_TO = 6.0  # eV below an edge, where it ends
TYPICAL_EXPONENT = 3.0  # of a background; divided out before averaging, so that groups are flat


def background(
    frames: NDArray,
    energy: Floats,
    onset: float,
    *,
    fit_from: float = FIT_FROM,
    fit_to: float = FIT_TO,
    groups: int | None = None,
) -> NDArray[np.float64]:
    """Fit a power law A E^-r before an edge and continue it under the edge.

    The standard background (R. F. Egerton, EELS in the Electron Microscope, 3rd ed., 4.4): a
    least-squares line through log counts over log energy. A fit of single channels has the
    least noise, but is too low below about ten electrons per channel, as the mean logarithm is
    below the logarithm of the mean. With eight groups it is right down to two or three electrons.

    Args:
        frames: counts, shape `(..., energy)`.
        energy: of each channel, in eV, shape `(energy,)`.
        onset: of the edge, in eV.
        fit_from: where the fit begins, in eV below the onset.
        fit_to: where it ends, in eV below the onset.
        groups: number of groups of neighbouring channels that are averaged before the logarithm;
            None: each channel is a group. A mean below one count is set to one.

    Returns:
        Counts, shape of `frames`; NaN in channels below the beginning of the fit.

    Raises:
        ValueError: the energies do not match the frames, do not cover the range from the fit to
            the onset, or leave fewer than two groups above 0 eV to fit.
    """
    check(frames, energy)
    _check_reach(energy, onset, onset - fit_from, onset)
    fitted = np.flatnonzero((energy >= onset - fit_from) & (energy <= onset - fit_to))
    size = len(fitted)
    parts = min(groups or size, size)
    if onset <= fit_from or parts < 2:
        raise ValueError(
            f"a power law needs at least two groups of channels, all above 0 eV; from "
            f"{onset - fit_from:g} to {onset - fit_to:g} eV there are {parts}"
        )
    typical = (energy[fitted[0] :] / onset) ** -TYPICAL_EXPONENT
    starts = np.arange(parts) * size // parts
    sizes = np.diff(starts, append=size)
    log_energy = np.add.reduceat(np.log(energy[fitted]), starts) / sizes
    means = np.add.reduceat(frames[..., fitted] / typical[:size], starts, axis=-1) / sizes
    log_means = np.log(np.maximum(means, 1.0))
    centred = log_energy - log_energy.mean()
    slope = (log_means * centred).sum(axis=-1, keepdims=True) / (centred**2).sum()
    level = log_means.mean(axis=-1, keepdims=True) - slope * log_energy.mean()
    law = np.full(frames.shape, np.nan)
    law[..., fitted[0] :] = typical * np.exp(level + slope * np.log(energy[fitted[0] :]))
    return law


def remove_background(
    frames: NDArray,
    energy: Floats,
    onset: float,
    *,
    fit_from: float = FIT_FROM,
    fit_to: float = FIT_TO,
    groups: int | None = None,
) -> NDArray[np.float64]:
    """Subtract the power law of `background`, with the same parameters and errors.

    Returns:
        Counts, shape of `frames`; NaN in channels below the beginning of the fit.
    """
    return frames - background(
        frames, energy, onset, fit_from=fit_from, fit_to=fit_to, groups=groups
    )


def elemental_map(
    frames: NDArray,
    energy: Floats,
    onset: float,
    width: float = 40.0,
    *,
    groups: int | None = None,
) -> NDArray[np.float64]:
    """Integrate an edge above its `background`.

    The standard quantification (R. F. Egerton, EELS in the Electron Microscope, 3rd ed., 4.4).

    Args:
        frames: counts, shape `(..., energy)`.
        energy: of each channel, in eV, shape `(energy,)`.
        onset: of the edge, in eV.
        width: of the range that is integrated above the onset, in eV.
        groups: of channels that are averaged before the fit, see `background`.

    Returns:
        Counts in the edge, shape `(...)`.

    Raises:
        ValueError: the energies do not match the frames, or do not cover the range from 60 eV
            below the onset to the end of the integral.
    """
    _check_reach(energy, onset, onset - FIT_FROM, onset + width)
    inside = (energy >= onset) & (energy <= onset + width)
    return remove_background(frames, energy, onset, groups=groups)[..., inside].sum(axis=-1)


def _check_reach(energy: Floats, onset: float, low: float, high: float) -> None:
    if energy[0] > low or energy[-1] < high:
        raise ValueError(
            f"an edge at {onset:g} eV needs spectra from {low:g} to {high:g} eV; "
            f"these cover {energy[0]:g} to {energy[-1]:g} eV"
        )
