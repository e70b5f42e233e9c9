import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluesky_em.analysis import shift


@given(st.integers(-12, 12), st.integers(-12, 12))
def test_the_shift_of_a_moved_image_is_found(down: int, right: int) -> None:
    rng = np.random.default_rng(0)
    large = rng.normal(size=(130, 140))
    blurred = sum(np.roll(large, (a, b), (0, 1)) for a in range(5) for b in range(5))
    image = blurred[20:84, 20:100]
    moved = blurred[20 - down : 84 - down, 20 - right : 100 - right]
    np.testing.assert_allclose(shift(image, moved), (down, right), atol=0.6)


def test_an_image_that_has_not_moved_has_no_shift() -> None:
    image = np.random.default_rng(1).normal(size=(32, 32))
    np.testing.assert_allclose(shift(image, image), (0, 0), atol=1e-6)


def test_images_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        shift(np.zeros((4, 4)), np.zeros((4, 5)))
