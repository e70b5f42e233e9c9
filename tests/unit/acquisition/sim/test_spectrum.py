import numpy as np
import pytest

from bluesky_em.acquisition.sim import Sample
from bluesky_em.acquisition.sim._sample import Matter
from bluesky_em.acquisition.sim._spectrum import (
    ADC_MAX,
    COUNTS_PER_ELECTRON,
    EelsCamera,
    EnergyDrift,
    LossModel,
)

ENERGY = -100 + 0.5 * np.arange(2048)


def matter(carbon: float = 0.0, oxide: float = 0.0, gold: float = 0.0) -> Matter:
    return Matter(np.float64(carbon), np.float64(oxide), np.float64(gold))


def jump(spectrum: np.ndarray, onset: float) -> float:
    before = spectrum[(ENERGY > onset - 12) & (ENERGY < onset - 4)].mean()
    return spectrum[(ENERGY > onset) & (ENERGY < onset + 8)].mean() / before


def test_the_thickness_follows_from_the_fraction_of_the_zero_loss():
    spectrum = LossModel().per_electron(matter(carbon=0.7), -100, 0.5)
    zero_loss = spectrum[np.abs(ENERGY) < 2].sum()
    assert np.log(spectrum.sum() / zero_loss) == pytest.approx(0.7, abs=0.03)


def test_vacuum_is_only_a_zero_loss_peak_at_channel_200():
    spectrum = LossModel().per_electron(matter(), -100, 0.5)
    assert spectrum.argmax() == 200
    assert spectrum.sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("material", "onset"), [("carbon", 284), ("oxide", 456), ("oxide", 532)])
def test_edges_rise_at_their_onset(material: str, onset: float):
    spectrum = LossModel().per_electron(matter(**{material: 0.3}), -100, 0.5)
    assert jump(spectrum, onset) > 1.3


def test_carbon_alone_has_no_oxygen_edge():
    spectrum = LossModel().per_electron(matter(carbon=0.3), -100, 0.5)
    assert jump(spectrum, 532) < 1.0


def test_a_thick_sample_shows_the_double_plasmon():
    thin, thick = (LossModel().per_electron(matter(carbon=t), -100, 0.5) for t in (0.1, 1.5))
    single, double = (np.abs(ENERGY - e).argmin() for e in (24, 48))
    assert thick[double] / thick[single] > 2 * thin[double] / thin[single]


def test_a_finer_dispersion_shows_the_same_physics():
    coarse = LossModel().per_electron(matter(oxide=0.4), 400, 0.5)
    fine = LossModel().per_electron(matter(oxide=0.4), 400, 0.05)
    assert fine.sum() == pytest.approx(coarse[:205].sum(), rel=0.02)


def test_counts_are_the_electrons_times_the_gain_with_poisson_noise():
    camera = EelsCamera(1, Sample())
    expected = np.full(2048, 400.0)
    counts = camera.read(expected, 894, 1154, 130, 3).image.sum(axis=0) / COUNTS_PER_ELECTRON
    assert counts.mean() == pytest.approx(400, rel=0.04)
    assert counts.std() == pytest.approx(20, rel=0.15)


def test_the_dark_is_in_the_raw_counts_and_subtracted_from_the_processed():
    camera = EelsCamera(1, Sample())
    assert camera.read(None, 894, 1154, 130, 1).image.mean() == pytest.approx(740, abs=20)
    assert camera.read(None, 894, 1154, 130, 3).image.mean() == pytest.approx(0, abs=1)


def test_too_many_electrons_saturate_and_are_reported():
    camera = EelsCamera(1, Sample())
    expected = np.zeros(2048)
    expected[200] = 1e9
    image, saturated = camera.read(expected, 894, 1154, 130, 1)
    assert image.max() == np.float32(ADC_MAX * 130)
    assert saturated == pytest.approx(1 / 2048)


def test_the_energy_drifts_slowly_and_the_same_for_the_same_seed():
    drift = EnergyDrift(seed=5)
    assert drift.at(0.0) == 0.0
    assert 0 < abs(drift.at(60.0)) < 0.5
    assert drift.at(60.0) == EnergyDrift(seed=5).at(60.0)
