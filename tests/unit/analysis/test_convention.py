"""The convention for online analysis: any leading dimensions, batch and thread; quick imports."""

import subprocess
import sys

import pytest

from bluesky_em import analysis
from tests.support.convention import (
    FRAMES,
    Function,
    check_batches,
    check_input_unchanged,
    check_threads,
)

SCALARS = [
    analysis.zero_loss,
    analysis.thickness,
    lambda frames, energy: analysis.elemental_map(frames, energy, 284.0),
]
SPECTRA = [
    lambda frames, energy: analysis.subtract_dark(frames, FRAMES[0]),
    analysis.align_zero_loss,
    lambda frames, energy: analysis.background(frames, energy, 284.0),
    lambda frames, energy: analysis.remove_background(frames, energy, 284.0),
]


@pytest.mark.parametrize("function", SCALARS + SPECTRA)
@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<u2", "<u4"])
def test_a_frames_result_does_not_depend_on_its_batch(function: Function, dtype: str) -> None:
    check_batches(function, dtype, (2048,) if function in SPECTRA else ())


@pytest.mark.parametrize("function", SCALARS + SPECTRA)
def test_frames_stay_as_they_were(function: Function) -> None:
    check_input_unchanged(function)


def test_threads_do_not_disturb_each_other() -> None:
    check_threads(SCALARS + SPECTRA)


def test_nothing_is_printed_and_neither_exspy_nor_the_server_is_imported() -> None:
    code = """
import sys, numpy as np
from bluesky_em.analysis import *
energy = np.arange(-50.0, 950.0)
frames = np.exp(-(energy / 2) ** 2)[None] * 1e5
print(align_zero_loss(frames, energy).shape, {"exspy", "Pyro5", "bluesky"} & sys.modules.keys())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "(1, 1000) set()\n"
    assert done.stderr == ""
