"""Our analysis compared with exspy and HyperSpy, whose import takes 20 s."""

import subprocess
import sys

import numpy as np
import pytest

from bluesky_em import analysis
from bluesky_em.acquisition.sim._sample import MEAN_FREE_PATH, Matter
from bluesky_em.acquisition.sim._spectrum import LossModel
from bluesky_em.analysis import (
    absolute_thickness,
    align_zero_loss,
    remove_background,
    thickness,
    zero_loss,
)
from tests.support.convention import check_batches, check_input_unchanged, check_threads
from tests.support.spectra import ENERGY, eels_spectrum, spectra

pytestmark = [
    pytest.mark.long_import,
    # exspy 0.3 imports from a place that HyperSpy 2.5 warns about
    pytest.mark.filterwarnings("ignore:Importing `Lazy"),
]

SHIFTS = np.random.default_rng(1).uniform(-3, 3, 50)  # eV
MICROSCOPE = {"beam_energy": 200.0, "convergence_angle": 21.0, "collection_angle": 62.0}


def absolute(frames: np.ndarray, energy: np.ndarray) -> np.ndarray:
    return absolute_thickness(frames, energy, density=2.0, **MICROSCOPE)


@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<u2", "<u4"])
def test_an_absolute_thickness_does_not_depend_on_its_batch(dtype: str) -> None:
    check_batches(absolute, dtype, ())


def test_absolute_thickness_leaves_frames_as_they_were() -> None:
    check_input_unchanged(absolute)


def test_threads_that_need_exspy_do_not_disturb_each_other() -> None:
    check_threads([absolute, analysis.thickness, analysis.align_zero_loss])


def test_nothing_is_printed_and_exspy_is_imported_only_when_it_is_needed() -> None:
    code = """
import sys, numpy as np
from bluesky_em.analysis import *
energy = np.arange(-50.0, 950.0)
frames = np.exp(-(energy / 2) ** 2)[None] * 1e5
print(align_zero_loss(frames, energy).shape, "exspy" in sys.modules)
print(absolute_thickness(frames, energy, density=2, beam_energy=200, convergence_angle=21,
                         collection_angle=62).shape, "exspy" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "(1, 1000) False\n(1,) True\n"
    assert done.stderr == ""


def test_exspy_aligns_to_the_same_energies_but_for_its_sixth_of_a_channel() -> None:
    frames = spectra(SHIFTS)
    signal = eels_spectrum(frames)
    (axis,) = signal.axes_manager.signal_axes
    signal.align_zero_loss_peak(print_stats=False, show_progressbar=False)
    theirs = zero_loss(signal.data, axis.axis)
    ours = zero_loss(align_zero_loss(frames, ENERGY), ENERGY)
    assert ours.std() < theirs.std() < 0.5 / 6
    assert abs(theirs.mean()) < 0.5  # all are off by the position of the first


def test_exspy_gives_the_same_thickness() -> None:
    frames = spectra(np.zeros(5))
    theirs = eels_spectrum(frames).estimate_thickness(
        threshold=3.5
    )  # exspy leaves that channel out
    np.testing.assert_allclose(thickness(frames, ENERGY, threshold=3.2), theirs.data, rtol=1e-5)
    assert eels_spectrum(frames[:1]).estimate_elastic_scattering_threshold().data[0] > 2.5


def test_exspy_gives_the_same_thickness_in_metres() -> None:
    frames = spectra(np.zeros(5))
    signal = eels_spectrum(frames)
    signal.set_microscope_parameters(**MICROSCOPE)
    theirs = signal.estimate_thickness(threshold=3.5, density=2.0)
    ours = absolute_thickness(frames, ENERGY, density=2.0, threshold=3.2, **MICROSCOPE)
    np.testing.assert_allclose(ours, 1e-9 * theirs.data, rtol=1e-5)
    assert ours.mean() == pytest.approx(0.5 * MEAN_FREE_PATH["carbon"], rel=0.4)


def test_hyperspy_removes_the_same_background() -> None:
    """HyperSpy uses Egerton's method of two areas, with energies half a channel off."""
    import hyperspy.api as hs

    model = LossModel()
    film = Matter(np.float64(0.13), np.float64(0.4), np.float64(0.0))
    expected = 1e9 * model.per_electron(film, -100.0, 0.5)
    spectrum = hs.signals.Signal1D(np.tile(expected, (3, 1)))
    (axis,) = spectrum.axes_manager.signal_axes
    axis.offset, axis.scale = -100.0, 0.5
    theirs = spectrum.remove_background((396.0, 450.0), "PowerLaw", show_progressbar=False)
    inside = (ENERGY >= 456) & (ENERGY <= 496)
    ours = remove_background(expected, ENERGY, 456.0)
    assert ours[inside].sum() == pytest.approx(theirs.data[0, inside].sum(), rel=0.02)
