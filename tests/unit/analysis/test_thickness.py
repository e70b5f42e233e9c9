import sys

import numpy as np
import pytest

from bluesky_em.acquisition.sim import Sample
from bluesky_em.acquisition.sim._spectrum import LossModel
from bluesky_em.analysis import absolute_thickness, align_zero_loss, thickness
from bluesky_em.analysis._thickness import _exspy
from tests.support.spectra import ENERGY, spectra

SHIFTS = np.linspace(-3, 3, 20)  # eV
MICROSCOPE = {"beam_energy": 200.0, "convergence_angle": 21.0, "collection_angle": 62.0}


@pytest.mark.parametrize("truth", [0.1, 0.5, 1.5, 3.0])
def test_thickness_does_not_depend_on_the_shift(truth: float) -> None:
    found = thickness(spectra(SHIFTS, carbon=truth), ENERGY)
    assert found.mean() == pytest.approx(truth, abs=0.005)
    assert found.std() < 0.01


def test_the_thickness_of_a_wedge_of_the_simulated_sample_is_found() -> None:
    sample, model = Sample(), LossModel()
    x = np.linspace(0, 90e-9, 12)
    places = [sample.matter(where, 0.0) for where in x]
    frames = np.array([model.per_electron(matter, -100.0, 0.5) for matter in places])
    without_gold = np.array([matter.gold == 0 for matter in places])  # its edges add 3 %
    found = thickness(1e6 * frames, ENERGY)
    np.testing.assert_allclose(
        found[without_gold], sample.thickness(x, 0.0)[without_gold], atol=0.01
    )


def test_alignment_does_not_change_the_thickness() -> None:
    frames = spectra(SHIFTS)
    aligned = align_zero_loss(frames, ENERGY)
    np.testing.assert_allclose(thickness(aligned, ENERGY), thickness(frames, ENERGY), atol=0.005)


def test_without_a_peak_there_is_no_thickness() -> None:
    assert np.isnan(thickness(np.zeros((2, 2048)), ENERGY)).all()


def test_a_threshold_below_the_peak_is_refused() -> None:
    with pytest.raises(ValueError, match="not -1"):
        thickness(np.zeros(2048), ENERGY, threshold=-1.0)


def test_without_exspy_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    _exspy.cache_clear()
    monkeypatch.setitem(sys.modules, "exspy.utils", None)
    with pytest.raises(ImportError, match=r'pip install "bluesky-em\[analysis\]"'):
        absolute_thickness(np.zeros(2048), ENERGY, density=2.0, **MICROSCOPE)
