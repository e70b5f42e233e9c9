"""Simulated low-loss spectra of known thickness and shift, also as signals of exspy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_em.acquisition.sim._sample import Matter
from bluesky_em.acquisition.sim._spectrum import COUNTS_PER_ELECTRON, LossModel

ENERGY = -100 + 0.5 * np.arange(2048)


def spectra(
    shifts: NDArray, dispersion: float = 0.5, electrons: float = 1e6, carbon: float = 0.5
) -> NDArray[np.float32]:
    """Return counts with shot noise, shape `(shifts, 2048)`; zero loss at channel 200 plus shift.

    Args:
        shifts: in eV.
        dispersion: in eV per channel.
        electrons: in a spectrum.
        carbon: t/lambda.
    """
    matter, model = Matter(np.float64(carbon), np.float64(0.0), np.float64(0.0)), LossModel()
    start = -200 * dispersion
    expected = [model.per_electron(matter, start - shift, dispersion) for shift in shifts]
    noisy = np.random.default_rng(0).poisson(electrons * np.array(expected))
    return (COUNTS_PER_ELECTRON * noisy).astype(np.float32)


def eels_spectrum(frames: NDArray) -> Any:
    """Return a signal of exspy, which is imported here: this warns, see the marks of the tests."""
    from exspy.signals import EELSSpectrum

    signal = EELSSpectrum(frames.copy())
    (axis,) = signal.axes_manager.signal_axes
    axis.offset, axis.scale = ENERGY[0], 0.5
    return signal
