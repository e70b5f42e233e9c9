import numpy as np
import pytest

from bluesky_em.acquisition.instrument_pc.exposure import Exposure
from bluesky_em.acquisition.instrument_pc.summary import summarise
from bluesky_em.analysis import align_zero_loss, zero_loss
from bluesky_em.axes import Axis
from tests.support.spectra import ENERGY, spectra

SHIFTS = np.random.default_rng(1).uniform(-3, 3, 50)  # eV


@pytest.mark.parametrize("dispersion", [1.0, 0.5, 0.25, 0.05, 0.02])
@pytest.mark.parametrize(("electrons", "error"), [(1e6, 0.002), (1e4, 0.02)])
def test_the_peak_is_found_to_a_fraction_of_a_channel(
    dispersion: float, electrons: float, error: float
) -> None:
    shifts = SHIFTS * dispersion
    energy = dispersion * np.arange(-200, 1848)
    found = zero_loss(spectra(shifts, dispersion, electrons), energy)
    assert np.sqrt(np.mean((found - shifts) ** 2)) < error


@pytest.mark.parametrize("dispersion", [1.0, 0.5, 0.25, 0.05, 0.02])
@pytest.mark.parametrize("electrons", [1e6, 1e4, 300])
def test_an_events_number_is_exactly_that_of_the_analysis(
    dispersion: float, electrons: float
) -> None:
    axis = {"name": "energy", "units": "eV", "offset": -200 * dispersion, "scale": dispersion}
    frames = spectra(SHIFTS * dispersion, dispersion, electrons)
    frames += np.random.default_rng(2).normal(0.0, 5.0, frames.shape)  # the camera's noise
    energy = Axis(**axis, size=2048).values
    in_events = [summarise(Exposure(frame, [axis], {}, 0.0, 0.0))["zero_loss"] for frame in frames]
    np.testing.assert_array_equal(zero_loss(frames, energy), in_events)
    assert np.isfinite(in_events).all() or electrons < 1e4


def test_noise_has_no_zero_loss() -> None:
    noise = np.random.default_rng(0).normal(0.0, 20.0, (200, 2048))
    assert np.isnan(zero_loss(noise, ENERGY)).all()
    assert np.isnan(align_zero_loss(noise, ENERGY)).all()


def test_an_aligned_spectrum_has_its_peak_at_zero_and_nan_where_nothing_was_measured() -> None:
    aligned = align_zero_loss(spectra(np.array([-2.2, 2.2])), ENERGY)
    assert aligned.dtype == np.float32
    np.testing.assert_allclose(zero_loss(aligned, ENERGY), 0.0, atol=0.03)
    np.testing.assert_array_equal(np.isnan(aligned).sum(axis=1), [5, 5])
    assert np.isnan(aligned[0, :5]).all() and np.isnan(aligned[1, -5:]).all()


def test_alignment_keeps_the_sum_of_counts() -> None:
    frame = spectra(np.array([1.3]))[0]
    assert np.nansum(align_zero_loss(frame, ENERGY)) == pytest.approx(frame.sum(), rel=1e-4)


@pytest.mark.parametrize(
    "frame",
    [np.zeros(2048), -np.ones(2048), np.arange(2048), np.full(2048, np.nan)],
    ids=["nothing", "below zero", "rising", "nan"],
)
def test_without_a_peak_there_is_no_position(frame: np.ndarray) -> None:
    assert np.isnan(zero_loss(frame, ENERGY))
    assert np.isnan(align_zero_loss(frame, ENERGY)).all()


def test_all_counts_in_one_channel_are_a_peak() -> None:
    frame = np.where(ENERGY == 1.5, 100, 0).astype("<u2")
    assert zero_loss(frame, ENERGY) == 1.5
    assert align_zero_loss(frame, ENERGY)[200] == 100


def test_a_thick_specimens_plasmon_is_not_taken_for_the_zero_loss() -> None:
    thick = spectra(np.array([0.3]), carbon=5.0)
    assert zero_loss(thick, ENERGY, within=(-100.0, 300.0))[0] > 20
    assert zero_loss(thick, ENERGY)[0] == pytest.approx(0.3, abs=0.05)
    assert zero_loss(thick, ENERGY, within=(-10.0, 10.0))[0] == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize(
    ("within", "said"), [(None, "at 0 eV"), ((-10.0, 10.0), "from -10 to 10 eV")]
)
def test_core_losses_have_no_zero_loss(within: tuple[float, float] | None, said: str) -> None:
    with pytest.raises(ValueError, match=f"no zero loss {said} in spectra that cover 300 to 1323"):
        zero_loss(np.ones(2048), ENERGY + 400, within=within)


def test_frames_that_do_not_match_their_energies_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"shape \(3, 1024\) do not match energies of shape \(2048,\)"
    ):
        zero_loss(np.ones((3, 1024)), ENERGY)


def test_energies_that_descend_are_refused() -> None:
    with pytest.raises(ValueError, match="energies must ascend"):
        zero_loss(np.ones(2048), ENERGY[::-1])
