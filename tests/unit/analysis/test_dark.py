import numpy as np
import pytest

from bluesky_em.analysis import subtract_dark


@pytest.mark.parametrize(
    ("frames", "dark", "given"),
    [("<u2", "<u2", "<f4"), ("<u2", "<f4", "<f4"), ("<f4", "<f4", "<f4"), ("<u4", "<f4", "<f8")],
)
def test_a_dark_is_subtracted_without_wrapping_around_zero(
    frames: str, dark: str, given: str
) -> None:
    counts = subtract_dark(np.full((2, 3, 4), 5, frames), np.array([0, 5, 6, 7], dark))
    assert counts.dtype == np.dtype(given)
    np.testing.assert_array_equal(counts, np.tile([5, 0, -1, -2], (2, 3, 1)))


def test_images_take_a_dark_image() -> None:
    images = np.ones((5, 2, 3), "<u2")
    assert not subtract_dark(images, np.ones((2, 3), "<u2")).any()


@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 4), (5, 3, 4)])
def test_a_dark_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"does not fit frames of shape \(3, 4\)"):
        subtract_dark(np.zeros((3, 4)), np.zeros(shape))
