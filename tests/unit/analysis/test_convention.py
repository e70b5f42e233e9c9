"""What on-line processing counts on: any leading dimensions, any batch, any thread, no word."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bluesky_em import analysis
from tests.support.spectra import ENERGY, spectra

FRAMES = spectra(np.linspace(-1, 1, 6))


def absolute(frames: np.ndarray, energy: np.ndarray) -> np.ndarray:
    return analysis.absolute_thickness(
        frames,
        energy,
        density=2.0,
        beam_energy=200.0,
        convergence_angle=21.0,
        collection_angle=62.0,
    )


SCALARS = [
    analysis.zero_loss,
    analysis.thickness,
    absolute,
    lambda frames, energy: analysis.elemental_map(frames, energy, 284.0),
]
SPECTRA = [
    lambda frames, energy: analysis.subtract_dark(frames, FRAMES[0]),
    analysis.align_zero_loss,
    lambda frames, energy: analysis.background(frames, energy, 284.0),
    lambda frames, energy: analysis.remove_background(frames, energy, 284.0),
]
Function = Callable[[np.ndarray, np.ndarray], np.ndarray]


@pytest.mark.parametrize("function", SCALARS + SPECTRA)
@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<u2", "<u4"])
def test_a_frames_result_does_not_depend_on_its_batch(function: Function, dtype: str) -> None:
    frames = np.minimum(FRAMES, 65535).astype(dtype)
    one_by_one = np.array([function(frame, ENERGY) for frame in frames])
    ending = (2048,) if function in SPECTRA else ()
    for leading in [(6,), (2, 3), (1, 6, 1)]:
        together = function(frames.reshape(*leading, 2048), ENERGY)
        assert together.shape == leading + ending
        np.testing.assert_allclose(together.reshape(one_by_one.shape), one_by_one, rtol=1e-5)
    assert function(frames[:1], ENERGY).shape == (1, *ending)
    assert function(frames[:0], ENERGY).shape == (0, *ending)


@pytest.mark.parametrize("function", SCALARS + SPECTRA)
def test_frames_stay_as_they_were(function: Function) -> None:
    frames = FRAMES.copy()
    frames.flags.writeable = False
    function(frames, ENERGY)
    np.testing.assert_array_equal(frames, FRAMES)


def test_threads_do_not_disturb_each_other() -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda function: function(FRAMES, ENERGY), 4 * (SCALARS + SPECTRA)))
    for first, later in zip(found, found[8:], strict=False):
        np.testing.assert_array_equal(first, later)


def test_nothing_is_printed_and_exspy_stays_out_until_it_is_needed() -> None:
    code = """
import sys, numpy as np
from bluesky_em.analysis import *
energy = np.arange(-50.0, 950.0)
frames = np.exp(-(energy / 2) ** 2)[None] * 1e5
print(align_zero_loss(frames, energy).shape, "exspy" in sys.modules)
print(absolute_thickness(frames, energy, density=2, beam_energy=200, convergence_angle=21,
                         collection_angle=62).shape, "exspy" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "(1, 1000) False\n(1,) True\n"
    assert done.stderr == ""
