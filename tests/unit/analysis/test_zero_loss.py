import numpy as np
import pytest

from bluesky_em.analysis import align_zero_loss, zero_loss
from tests.support.spectra import ENERGY, eels_spectrum, spectra

# exspy 0.3 imports from where HyperSpy 2.5 does not want it to
pytestmark = pytest.mark.filterwarnings("ignore:Importing `Lazy")

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


def test_an_aligned_spectrum_has_its_peak_at_zero_and_nothing_where_nothing_was_measured() -> None:
    aligned = align_zero_loss(spectra(np.array([-2.2, 2.2])), ENERGY)
    assert aligned.dtype == np.float32
    np.testing.assert_allclose(zero_loss(aligned, ENERGY), 0.0, atol=0.03)
    np.testing.assert_array_equal(np.isnan(aligned).sum(axis=1), [5, 5])
    assert np.isnan(aligned[0, :5]).all() and np.isnan(aligned[1, -5:]).all()


def test_counts_move_and_are_neither_lost_nor_made() -> None:
    frame = spectra(np.array([1.3]))[0]
    assert np.nansum(align_zero_loss(frame, ENERGY)) == pytest.approx(frame.sum(), rel=1e-4)


def test_exspy_aligns_to_the_same_energies_but_for_its_sixth_of_a_channel() -> None:
    frames = spectra(SHIFTS)
    signal = eels_spectrum(frames)
    (axis,) = signal.axes_manager.signal_axes
    signal.align_zero_loss_peak(print_stats=False, show_progressbar=False)
    theirs = zero_loss(signal.data, axis.axis)
    ours = zero_loss(align_zero_loss(frames, ENERGY), ENERGY)
    assert ours.std() < theirs.std() < 0.5 / 6
    assert abs(theirs.mean()) < 0.5  # all of them off by what the first was


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
    assert zero_loss(thick, ENERGY)[0] > 20
    assert zero_loss(thick, ENERGY, within=(-10.0, 10.0))[0] == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize(
    ("within", "said"), [(None, "at 0 eV"), ((-10.0, 10.0), "from -10 to 10 eV")]
)
def test_core_losses_have_no_zero_loss(within: tuple[float, float] | None, said: str) -> None:
    with pytest.raises(ValueError, match=f"looked for {said} in spectra that go from 300 to 1323"):
        zero_loss(np.ones(2048), ENERGY + 400, within=within)


def test_frames_that_do_not_fit_their_energies_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"shape \(3, 1024\) do not fit energies of shape \(2048,\)"
    ):
        zero_loss(np.ones((3, 1024)), ENERGY)


def test_energies_that_descend_are_refused() -> None:
    with pytest.raises(ValueError, match="energies are to ascend"):
        zero_loss(np.ones(2048), ENERGY[::-1])
