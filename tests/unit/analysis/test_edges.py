import numpy as np
import pytest

from bluesky_em.analysis import background, elemental_map, remove_background

ENERGY = np.arange(200.0, 700.0, 0.5)
BACKGROUND = 1e10 * ENERGY**-2.5


def test_an_edge_is_counted_without_the_power_law_under_it() -> None:
    edge = np.where((ENERGY >= 456) & (ENERGY <= 496), 50.0, 0.0)
    spectra = np.stack([BACKGROUND, BACKGROUND + edge, 2 * BACKGROUND + 3 * edge])
    counts = elemental_map(spectra, ENERGY, 456.0)
    np.testing.assert_allclose(counts, [0, edge.sum(), 3 * edge.sum()], atol=1.0)


def test_a_map_of_spectra_gives_a_map_of_counts() -> None:
    assert elemental_map(np.tile(BACKGROUND, (3, 4, 1)), ENERGY, 456.0).shape == (3, 4)


def test_the_background_is_the_power_law_from_the_beginning_of_the_fit_on() -> None:
    law = background(BACKGROUND, ENERGY, 456.0)
    begins = np.searchsorted(ENERGY, 396.0)
    assert np.isnan(law[:begins]).all()
    np.testing.assert_allclose(law[begins:], BACKGROUND[begins:], rtol=1e-5)


def test_without_its_background_an_edge_is_left() -> None:
    edge = np.where(ENERGY >= 456, 50.0, 0.0)
    left = remove_background(BACKGROUND + edge, ENERGY, 456.0, fit_from=100.0, fit_to=10.0)
    inside = ENERGY >= 356
    np.testing.assert_allclose(left[inside], edge[inside], atol=0.2)


def test_averaging_in_groups_removes_the_bias_of_few_counts() -> None:
    counts = np.random.default_rng(0).poisson(BACKGROUND / 150, (4000, len(ENERGY)))  # about 15
    under = (ENERGY >= 456) & (ENERGY <= 496)
    channelwise, grouped = (
        background(counts, ENERGY, 456.0, groups=groups)[:, under].sum(axis=1).mean()
        for groups in (None, 8)
    )
    truth = BACKGROUND[under].sum() / 150
    assert channelwise < 0.98 * truth
    assert grouped == pytest.approx(truth, rel=0.01)


def test_an_absent_element_is_not_found_in_few_counts() -> None:
    counts = np.random.default_rng(0).poisson(BACKGROUND / 150, (4000, len(ENERGY)))
    assert abs(elemental_map(counts, ENERGY, 456.0, groups=8).mean()) < 10
    assert elemental_map(counts, ENERGY, 456.0).mean() > 20


@pytest.mark.parametrize(
    ("onset", "fit_to", "said"),
    [(30.0, 6.0, "above 0 eV; from -30 to 24"), (456.0, 59.9, "from 396 to 396.1 eV there are 1")],
)
def test_a_fit_without_channels_is_refused(onset: float, fit_to: float, said: str) -> None:
    energy = np.arange(-100.0, 600.0, 0.5)
    with pytest.raises(ValueError, match=said):
        background(np.ones(1400), energy, onset, fit_to=fit_to)


@pytest.mark.parametrize("onset", [230.0, 680.0])
def test_an_edge_that_the_spectra_do_not_reach_is_refused(onset: float) -> None:
    with pytest.raises(ValueError, match=f"an edge at {onset:g} eV needs spectra from"):
        elemental_map(BACKGROUND, ENERGY, onset)
