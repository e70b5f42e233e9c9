"""Simulated low-loss spectra whose thickness and shift are known, also as exspy has them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_em.acquisition.sim._sample import Matter
from bluesky_em.acquisition.sim._spectrum import COUNTS_PER_ELECTRON, LossModel

ENERGY = -100 + 0.5 * np.arange(2048)


def spectra(
    shifts: NDArray, dispersion: float = 0.5, electrons: float = 1e6, carbon: float = 0.5
) -> NDArray[np.float32]:
    """Counts, shape `(shifts, 2048)`, with shot noise; zero loss at channel 200 and a shift, eV."""
    matter, model = Matter(np.float64(carbon), np.float64(0.0), np.float64(0.0)), LossModel()
    start = -200 * dispersion
    expected = [model.per_electron(matter, start - shift, dispersion) for shift in shifts]
    noisy = np.random.default_rng(0).poisson(electrons * np.array(expected))
    return (COUNTS_PER_ELECTRON * noisy).astype(np.float32)


def eels_spectrum(frames: NDArray) -> Any:
    """A signal of exspy, which is imported here: importing it warns, see the tests' marks."""
    from exspy.signals import EELSSpectrum

    signal = EELSSpectrum(frames.copy())
    (axis,) = signal.axes_manager.signal_axes
    axis.offset, axis.scale = ENERGY[0], 0.5
    return signal
