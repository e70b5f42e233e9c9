import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluesky_em.analysis import brightest_tiles, elemental_map, merge, shift

ENERGY = np.arange(200.0, 700.0, 0.5)
BACKGROUND = 1e10 * ENERGY**-2.5


def test_an_edge_is_counted_without_the_power_law_under_it() -> None:
    edge = np.where((ENERGY >= 456) & (ENERGY <= 496), 50.0, 0.0)
    spectra = np.stack([BACKGROUND, BACKGROUND + edge, 2 * BACKGROUND + 3 * edge])
    counts = elemental_map(spectra, ENERGY, 456.0)
    np.testing.assert_allclose(counts, [0, edge.sum(), 3 * edge.sum()], atol=1.0)


def test_a_map_of_spectra_gives_a_map_of_counts() -> None:
    assert elemental_map(np.tile(BACKGROUND, (3, 4, 1)), ENERGY, 456.0).shape == (3, 4)


@pytest.mark.parametrize("onset", [230.0, 680.0])
def test_an_edge_that_the_spectra_do_not_reach_is_refused(onset: float) -> None:
    with pytest.raises(ValueError, match=f"an edge at {onset:g} eV needs spectra from"):
        elemental_map(BACKGROUND, ENERGY, onset)


def test_spectra_of_several_offsets_become_one_in_counts_per_second() -> None:
    energy, rate = merge([
        (np.arange(0.0, 100.0), np.full(100, 10.0), 0.1),
        (np.arange(50.0, 150.0), np.full(100, 100.0), 1.0),
        (np.arange(200.0, 250.0), np.full(50, 7.0), 1.0),
    ])  # fmt: skip
    assert (energy[0], energy[-1], len(energy)) == (0.0, 249.0, 250)
    np.testing.assert_allclose(rate[:150], 100.0)
    assert np.isnan(rate[150:200]).all()
    np.testing.assert_allclose(rate[200:], 7.0)


def test_a_coarser_spectrum_is_shared_out_over_finer_steps() -> None:
    energy, rate = merge([
        (np.arange(0.0, 10.0, 0.5), np.full(20, 5.0), 1.0),
        (np.arange(20.0, 30.0, 1.0), np.full(10, 10.0), 1.0),
    ])  # fmt: skip
    assert energy[1] - energy[0] == 0.5
    np.testing.assert_allclose(rate[np.isfinite(rate)], 5.0)


def test_nothing_cannot_be_merged() -> None:
    with pytest.raises(ValueError, match="no spectrum"):
        merge([])


@given(st.integers(-12, 12), st.integers(-12, 12))
def test_a_moved_image_is_found_where_it_went(down: int, right: int) -> None:
    rng = np.random.default_rng(0)
    large = rng.normal(size=(130, 140))
    blurred = sum(np.roll(large, (a, b), (0, 1)) for a in range(5) for b in range(5))
    image = blurred[20:84, 20:100]
    moved = blurred[20 - down : 84 - down, 20 - right : 100 - right]
    np.testing.assert_allclose(shift(image, moved), (down, right), atol=0.6)


def test_an_image_that_has_not_moved_is_where_it_was() -> None:
    image = np.random.default_rng(1).normal(size=(32, 32))
    np.testing.assert_allclose(shift(image, image), (0, 0), atol=1e-6)


def test_images_of_different_shapes_do_not_compare() -> None:
    with pytest.raises(ValueError, match="do not compare"):
        shift(np.zeros((4, 4)), np.zeros((4, 5)))


def test_the_brightest_tiles_of_an_image_come_first() -> None:
    image = np.zeros((101, 80))
    image[30:40, 25:35] = 5.0
    image[80:, 70:] = 1.0
    assert brightest_tiles(image) == [(0.25, 0.25, 0.25, 0.25), (0.75, 0.75, 0.25, 0.25)]
