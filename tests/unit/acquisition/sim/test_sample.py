import numpy as np

from bluesky_em.acquisition.sim import Sample

GRID = np.linspace(-100e-9, 100e-9, 128)


def test_the_same_seed_gives_the_same_sample():
    once, again = (Sample(3).haadf(GRID[None, :], GRID[:, None]) for _ in range(2))
    assert np.array_equal(once, again)
    assert not np.array_equal(once, Sample(4).haadf(GRID[None, :], GRID[:, None]))


def test_the_first_view_shows_film_flake_and_gold():
    matter = Sample().matter(GRID[None, :], GRID[:, None])
    assert np.all(matter.carbon > 0)
    assert 0.05 < np.mean(matter.oxide > 0) < 0.5
    assert 0.02 < np.mean(matter.gold > 0) < 0.3


def test_composition_under_the_middle_is_carbon_and_oxide():
    composition = Sample().composition(0.0, 0.0)
    assert set(composition) == {"C", "Sr", "Ti", "O"}
    assert abs(sum(composition.values()) - 1) < 1e-12


def test_gold_is_brighter_than_oxide_is_brighter_than_film():
    sample = Sample()
    matter = sample.matter(GRID[None, :], GRID[:, None])
    image = sample.haadf(GRID[None, :], GRID[:, None])
    film = image[(matter.oxide == 0) & (matter.gold == 0)]
    assert np.allclose(film, 1.0)
    assert image[matter.gold > 0.1].mean() > image[matter.oxide > 0.3].mean() > 1.0


def test_a_single_point_agrees_with_an_image():
    sample = Sample()
    image = sample.haadf(GRID[None, :], GRID[:, None])
    assert sample.haadf(GRID[17], GRID[90]) == image[90, 17]
