import numpy as np

from bluesky_em.analysis import brightest_tiles


def test_the_brightest_tiles_of_an_image_come_first() -> None:
    image = np.zeros((101, 80))
    image[30:40, 25:35] = 5.0
    image[80:, 70:] = 1.0
    assert brightest_tiles(image) == [(0.25, 0.25, 0.25, 0.25), (0.75, 0.75, 0.25, 0.25)]
