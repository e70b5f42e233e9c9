import math
from typing import Any

import numpy as np
import pytest

from bluesky_em.acquisition.instrument_pc.exposure import Exposure
from bluesky_em.acquisition.instrument_pc.summary import summarise


def frame(array: np.ndarray, units: str = "px", **metadata: Any) -> Exposure:
    axes = [{"name": "i", "units": units, "offset": 0.0, "scale": 1.0} for _ in array.shape]
    return Exposure(array, axes, metadata, 0.0, 0.0)


def spectrum(counts: np.ndarray, offset: float, scale: float = 0.1) -> Exposure:
    axis = {"name": "energy", "units": "eV", "offset": offset, "scale": scale}
    return Exposure(counts, [axis], {}, 0.0, 0.0)


def peak(at: float, offset: float, width: float = 0.5, background: float = 0.0) -> Exposure:
    """A spectrum of 2048 channels with a peak."""
    energies = offset + 0.1 * np.arange(2048)
    counts = 1e4 * np.exp(-(((energies - at) / width) ** 2) / 2) + background
    return spectrum(counts.astype("<f4"), offset)


def thumbnail(array: np.ndarray) -> np.ndarray:
    return np.asarray(summarise(frame(array), thumbnail=True)["thumbnail"])


@pytest.mark.parametrize("dtype", ["<u1", "<u2", "<u4", "<i8", "<f4", "<f8"])
def test_total_mean_and_max_are_plain_floats_of_any_frame(dtype: str):
    summary = summarise(frame(np.array([[1, 2], [3, 6]], dtype)))
    assert (summary["total"], summary["mean"], summary["max"]) == (12.0, 3.0, 6.0)
    assert {type(value) for value in summary.values()} == {float}


def test_a_total_beyond_the_frames_own_type_does_not_overflow():
    assert summarise(frame(np.full((512, 512), 65535, "<u2")))["total"] == 65535.0 * 512**2
    assert summarise(frame(np.full(2, 2**63 - 1, "<i8")))["total"] == 2.0**64


def test_the_total_of_single_precision_loses_no_counts():
    assert summarise(frame(np.array([2**24, 1, 1, 1], "<f4")))["total"] == 2**24 + 3


def test_only_a_spectrum_has_a_zero_loss_in_its_summary():
    parts = {"total", "mean", "max", "saturation_fraction"}
    assert summarise(frame(np.ones((4, 4), "<u2"), "eV")).keys() == parts
    assert summarise(frame(np.ones(4, "<u2"), "px")).keys() == parts
    assert summarise(frame(np.ones(4, "<u2"), "eV")).keys() == parts | {"zero_loss"}


def test_the_saturation_in_the_metadata_comes_first():
    saturated = frame(np.array([65535, 0], "<u2"), saturation_fraction=0.125)
    assert summarise(saturated)["saturation_fraction"] == 0.125
    assert summarise(frame(np.zeros(2, "<f4"), saturation_fraction=1))["saturation_fraction"] == 1.0


def test_otherwise_unsigned_pixels_at_the_end_of_their_range_are_saturated():
    assert summarise(frame(np.array([255, 255, 254, 0], "<u1")))["saturation_fraction"] == 0.5
    assert summarise(frame(np.array([65534, 0], "<u2")))["saturation_fraction"] == 0.0


@pytest.mark.parametrize("dtype", ["<i2", "<i8", "<f4"])
def test_the_saturation_of_other_pixels_is_unknown(dtype: str):
    assert math.isnan(summarise(frame(np.full(4, 32767, dtype)))["saturation_fraction"])


@pytest.mark.parametrize("at", [0.0, -0.53, 3.217, 18.0])
@pytest.mark.parametrize("background", [0.0, 1000.0])
def test_the_zero_loss_peak_is_found_to_a_fraction_of_a_channel(at: float, background: float):
    assert summarise(peak(at, -20.0, background=background))["zero_loss"] == pytest.approx(
        at, abs=0.01
    )


def test_the_zero_loss_is_not_the_highest_peak_elsewhere():
    counts = peak(0.4, -20.0).array + 10 * peak(25.0, -20.0).array
    assert summarise(spectrum(counts, -20.0))["zero_loss"] == pytest.approx(0.4, abs=0.01)


def test_another_peak_within_reach_does_not_shift_the_zero_loss():
    counts = peak(0.4, -20.0).array + 0.8 * peak(12.0, -20.0).array
    assert summarise(spectrum(counts, -20.0))["zero_loss"] == pytest.approx(0.4, abs=0.01)


def test_a_peak_of_one_channel_is_where_that_channel_is():
    counts = np.array([0, 0, 7, 0, 0], "<u4")
    assert summarise(spectrum(counts, -10.0, 5.0))["zero_loss"] == 0.0


@pytest.mark.parametrize(
    "without_a_peak",
    {
        "0 eV lies before the axis": peak(10.0, 5.0),
        "0 eV lies behind the axis": peak(-10.0, -210.0),
        "the counts rise towards the border": peak(23.0, -50.0, width=3.0),
        "the axis begins within the peak": peak(0.0, -0.2),
        "the counts never fall to half their height": peak(0.0, -50.0, background=1e6),
        "no counts": spectrum(np.zeros(2048, "<f4"), -20.0),
        "negative counts": spectrum(np.full(2048, -1.0, "<f4"), -20.0),
        "a bad pixel": spectrum(np.full(2048, np.nan, "<f4"), -20.0),
        "no channel within 20 eV": spectrum(np.array([1, 5, 1, 1], "<u2"), -50.0, 100.0),
    }.items(),
    ids=lambda case: case[0],
)
def test_where_there_is_no_peak_the_zero_loss_is_nan(without_a_peak: tuple[str, Exposure]):
    assert math.isnan(summarise(without_a_peak[1])["zero_loss"])


def test_a_spectrums_thumbnail_is_its_means_over_64_parts():
    counts = np.arange(2048, dtype="<f4")
    np.testing.assert_allclose(thumbnail(counts), counts.reshape(64, 32).mean(axis=1))


def test_an_images_thumbnail_is_its_means_over_8_by_8_blocks_row_by_row():
    image = np.random.default_rng(1).integers(0, 65535, (32, 64)).astype("<u2")
    wanted = image.reshape(8, 4, 8, 8).mean(axis=(1, 3)).ravel()
    np.testing.assert_allclose(thumbnail(image), wanted)


@pytest.mark.parametrize("shape", [(65,), (1000,), (9, 8), (100, 37), (2, 1000), (1000, 1)])
def test_a_thumbnail_of_a_size_that_does_not_divide_is_as_bright_as_the_frame(shape: tuple):
    numbers = thumbnail(np.full(shape, 7, "<u2"))
    assert (numbers == 7.0).all() and numbers.shape == (64,)


def test_every_channel_is_in_one_part_of_the_thumbnail():
    counts = np.zeros(100, "<f4")
    for channel in range(100):
        counts[:] = 0
        counts[channel] = 6
        (part,) = np.flatnonzero(thumbnail(counts))
        assert thumbnail(counts)[part] in (6.0, 3.0)  # of one or two channels


@pytest.mark.parametrize("shape", [(), (5,), (7, 9)])
def test_a_frame_smaller_than_a_thumbnail_is_one_and_then_nan(shape: tuple):
    numbers, size = thumbnail(np.full(shape, 3, "<u2")), math.prod(shape)
    assert (numbers[:size] == 3).all() and np.isnan(numbers[size:]).all()
    assert numbers.shape == (64,)


def test_noise_has_no_zero_loss_whatever_its_highest_channel():
    rng = np.random.default_rng(0)
    for _ in range(200):
        noise = rng.normal(0.0, 20.0, 2048).astype("<f4")
        assert math.isnan(summarise(spectrum(noise, -100.0, 0.5))["zero_loss"])


def test_a_faint_zero_loss_stands_out_of_the_noise():
    rng = np.random.default_rng(0)
    noise = rng.normal(0.0, 20.0, 2048).astype("<f4")
    noise[200:202] += 400.0
    assert summarise(spectrum(noise, -100.0, 0.5))["zero_loss"] == pytest.approx(0.25, abs=0.1)
