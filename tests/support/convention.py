"""Checks of the calling convention of `bluesky_em.analysis`, for any of its functions."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tests.support.spectra import ENERGY, spectra

FRAMES = spectra(np.linspace(-1, 1, 6))
Function = Callable[[np.ndarray, np.ndarray], np.ndarray]


def check_batches(function: Function, dtype: str, ending: tuple[int, ...]) -> None:
    """Check that a frame's result, of shape `ending`, does not depend on its batch."""
    frames = np.minimum(FRAMES, 65535).astype(dtype)
    one_by_one = np.array([function(frame, ENERGY) for frame in frames])
    for leading in [(6,), (2, 3), (1, 6, 1)]:
        together = function(frames.reshape(*leading, 2048), ENERGY)
        assert together.shape == leading + ending
        np.testing.assert_allclose(together.reshape(one_by_one.shape), one_by_one, rtol=1e-5)
    assert function(frames[:1], ENERGY).shape == (1, *ending)
    assert function(frames[:0], ENERGY).shape == (0, *ending)


def check_input_unchanged(function: Function) -> None:
    """Check that a function does not write into its frames."""
    frames = FRAMES.copy()
    frames.flags.writeable = False
    function(frames, ENERGY)
    np.testing.assert_array_equal(frames, FRAMES)


def check_threads(functions: Sequence[Function]) -> None:
    """Check that functions give the same results when four threads call them at the same time."""
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda function: function(FRAMES, ENERGY), 4 * [*functions]))
    for first, later in zip(found, found[len(functions) :], strict=False):
        np.testing.assert_array_equal(first, later)
