"""The convention for online analysis: any leading dimensions, batch and thread."""

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
