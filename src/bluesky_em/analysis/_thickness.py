"""Specimen thickness, from the share of electrons without energy loss."""

from __future__ import annotations

import warnings
from functools import cache
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from ._spectra import Floats
from ._zero_loss import zero_loss


def thickness(
    frames: NDArray,
    energy: Floats,
    *,
    threshold: float = 3.0,
    within: tuple[float, float] | None = None,
) -> NDArray[np.float64]:
    """Return thickness over inelastic mean free path, t/lambda = ln(I_total / I_zlp).

    The log-ratio method (R. F. Egerton, EELS in the Electron Microscope, 3rd ed., 5.1). The zero
    loss ends at a threshold above each spectrum's own peak, so spectra need no alignment.

    Args:
        frames: low-loss counts without dark, shape `(..., energy)`; losses beyond the last
            channel are missed, NaN is ignored.
        energy: of each channel, in eV, shape `(energy,)`, in equal steps.
        threshold: where the zero loss ends, in eV above its peak: about three times its width,
            below the first plasmon.
        within: the range in eV of the peak, see `zero_loss`.

    Returns:
        t/lambda, shape `(...)`; NaN where there is no zero-loss peak.

    Raises:
        ValueError: as `zero_loss`, or the threshold is not above 0.
    """
    if threshold <= 0:
        raise ValueError(
            f"the threshold must be above the zero loss, at more than 0 eV, not {threshold:g}"
        )
    peak = zero_loss(frames, energy, within=within)
    elastic = np.where(energy <= peak[..., None] + threshold, frames, 0)
    total = np.nansum(frames, axis=-1, dtype=np.float64)
    elastic = np.where(np.isnan(peak), np.nan, np.nansum(elastic, axis=-1, dtype=np.float64))
    with np.errstate(invalid="ignore"):
        return np.log(total / elastic)


def absolute_thickness(
    frames: NDArray,
    energy: Floats,
    *,
    density: float,
    beam_energy: float,
    convergence_angle: float,
    collection_angle: float,
    threshold: float = 3.0,
    within: tuple[float, float] | None = None,
) -> NDArray[np.float64]:
    """Return the thickness in m, with exspy's mean free path for a density.

    K. Iakoubovskii et al., Microscopy Research and Technique 71 (2008) 626, equation 9: accurate
    to about 10 % for most solids.

    Args:
        frames: low-loss counts without dark, shape `(..., energy)`.
        energy: of each channel, in eV, shape `(energy,)`, in equal steps.
        density: of the specimen, in g/cm3.
        beam_energy: in keV.
        convergence_angle: semi-angle, in mrad.
        collection_angle: semi-angle, in mrad.
        threshold: where the zero loss ends, see `thickness`.
        within: the range in eV of the peak, see `zero_loss`.

    Returns:
        Thickness in m, shape `(...)`; NaN where there is no zero-loss peak.

    Raises:
        ImportError: exspy is not installed.
        ValueError: as `thickness`.
    """
    eels = _exspy()
    mean_free_path = 1e-9 * eels.iMFP_Iakoubovskii(density, beam_energy)
    mean_free_path *= eels.iMFP_angular_correction(
        density, beam_energy, convergence_angle, collection_angle
    )
    return mean_free_path * thickness(frames, energy, threshold=threshold, within=within)


@cache
def _exspy() -> ModuleType:
    """Import exspy's functions for spectra, once: this takes seconds, and warns."""
    try:
        with warnings.catch_warnings():
            # exspy 0.3 imports from a place that HyperSpy 2.5 warns about
            warnings.filterwarnings("ignore", message="Importing `Lazy")
            from exspy.utils import eels
    except ImportError as exc:
        raise ImportError(
            'absolute_thickness needs exspy: `pip install "bluesky-em[analysis]"`'
        ) from exc
    return eels
