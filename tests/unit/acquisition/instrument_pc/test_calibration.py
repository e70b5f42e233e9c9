"""Numbers that an instrument gives about its axes, checked before use."""

import logging
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bluesky_em.acquisition.instrument_pc.autoscript import images
from bluesky_em.acquisition.instrument_pc.calibration import checked, is_possible, number
from bluesky_em.acquisition.instrument_pc.exposure import Exposure
from bluesky_em.acquisition.instrument_pc.gatan.driver import SpectrometerDriver
from bluesky_em.acquisition.instrument_pc.gatan.scan import map_axes
from bluesky_em.acquisition.instrument_pc.summary import summarise
from bluesky_em.acquisition.instrument_pc.zero_loss import find_zero_loss
from bluesky_em.acquisition.sim import Beam, digital_micrograph

IMPOSSIBLE = [0.0, -0.3, math.nan, math.inf, -math.inf]
UNCALIBRATED = {"name": "energy", "units": "channel", "offset": 0.0, "scale": 1.0, "size": 4}


def simulated() -> Any:
    return digital_micrograph(beam=Beam(), latency=False)


def spectrum(offset: Any, scale: Any, **metadata: Any) -> Exposure:
    energy = {"name": "energy", "units": "eV", "offset": offset, "scale": scale, "size": 4}
    return Exposure(np.arange(4, dtype="<f4"), [energy], metadata, 0.0, 1.0)


@pytest.mark.parametrize("scale", [*IMPOSSIBLE, None, 10**400])
def test_a_step_that_cannot_be_right_makes_the_axis_count_channels(scale: Any) -> None:
    frame = checked(spectrum(-10.0, scale))
    assert frame.axes == [UNCALIBRATED]
    assert "The energy axis is not calibrated (channel)" in frame.metadata["warning"]
    assert str(scale) in frame.metadata["warning"]


@pytest.mark.parametrize("offset", [math.nan, math.inf, None])
def test_an_offset_that_is_no_number_makes_the_axis_count_channels(offset: Any) -> None:
    assert checked(spectrum(offset, 0.3)).axes == [UNCALIBRATED]


def test_a_right_axis_and_its_metadata_stay_as_they_are() -> None:
    frame = spectrum(-10.0, 0.3, warning="something else", exposure=0.1)
    assert checked(frame) == frame
    assert is_possible(-1e6, 1e-9)


def test_a_warning_is_added_to_an_earlier_one_and_numbers_that_are_none_are_left_out() -> None:
    frame = checked(spectrum(0.0, 0.0, warning="The beam is off.", beam_energy=math.inf))
    assert frame.metadata["warning"].startswith("The beam is off. The energy axis")
    assert "beam_energy" not in frame.metadata
    assert checked(frame) == frame


def test_it_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            checked(spectrum(-77.0, -0.25))
    assert len(caplog.messages) == 1 and "-0.25 eV a step" in caplog.text


@pytest.mark.parametrize("scale", IMPOSSIBLE)
def test_pixels_of_an_impossible_size_are_counted(scale: float) -> None:
    axes = [
        {"name": "y", "units": "m", "offset": 0.0, "scale": 1e-9, "size": 2},
        {"name": "x", "units": "m", "offset": 0.0, "scale": scale, "size": 2},
    ]
    y, x = checked(Exposure(np.zeros((2, 2), "<u2"), axes, {}, 0.0, 1.0)).axes
    assert y == axes[0]
    assert (x["units"], x["offset"], x["scale"]) == ("px", 0.0, 1.0)


@pytest.mark.parametrize("given", ["", "many", None, "nan", math.inf])
def test_what_is_no_number_is_nan(given: Any) -> None:
    assert math.isnan(number(given)) and number("2.5") == 2.5


@pytest.mark.parametrize("scale", IMPOSSIBLE)
def test_a_spectrum_whose_image_is_calibrated_wrongly_is_kept(
    monkeypatch: pytest.MonkeyPatch, scale: float
) -> None:
    dm = simulated()
    monkeypatch.setattr(dm, "energy_calibration", lambda: (-10.0, scale))
    frame = SpectrometerDriver(dm).expose("eels", {"exposure": 0.001})
    assert frame.array.shape == (2048,) and frame.array.sum() > 0
    assert frame.axes == [{**UNCALIBRATED, "size": 2048}]
    assert "dispersion" not in frame.metadata
    assert "not calibrated" in frame.metadata["warning"]
    assert "zero_loss" not in summarise(frame)


@pytest.mark.parametrize("key", ["dispersion", "energy_offset"])
def test_a_spectrum_without_any_calibration_is_kept(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    dm = simulated()
    driver = SpectrometerDriver(dm)
    monkeypatch.setattr(dm, "energy_calibration", lambda: (0.0, 1.0))
    state = {**driver._filter.state(), key: math.nan}
    monkeypatch.setattr(driver._filter, "state", lambda: state)
    monkeypatch.setattr(
        "bluesky_em.acquisition.sim._digital_micrograph.Image.GetDimensionCalibration",
        lambda *_: (0.0, 1.0, ""),
    )
    frame = driver.expose("eels", {"exposure": 0.001})
    assert frame.axes == [{**UNCALIBRATED, "size": 2048}]
    assert key not in frame.metadata


@pytest.mark.parametrize("dispersion", IMPOSSIBLE)
def test_a_dispersion_of_the_users_map_that_cannot_be_right_is_refused(dispersion: float) -> None:
    with pytest.raises(ValueError, match=r"dispersions\[2\] is .*a number above 0, e.g. 0.3"):
        SpectrometerDriver(simulated(), dispersions={2: dispersion})


@pytest.mark.parametrize("limits", [(0.0, math.nan), (3000.0, -200.0), (-math.inf, 10.0)])
def test_energy_limits_that_are_none_are_refused(limits: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="energy_limits is .*lowest and the highest"):
        SpectrometerDriver(simulated(), energy_limits=limits)


@pytest.mark.parametrize("step", [0.0, math.nan])
def test_without_a_calibration_there_is_no_zero_loss(step: float) -> None:
    energy = -10 + step * np.arange(64)
    assert np.isnan(find_zero_loss(np.ones((2, 64)), energy, (-20.0, 20.0))).all()


def test_the_axes_of_a_map_are_finite() -> None:
    scan = {"shape": [2, 4], "region": [0, 0, 1, 1]}
    assert [axis["scale"] for axis in map_axes(scan, 1.0, "")] == [0.5, 0.25]


@pytest.mark.parametrize("size", [0.0, -1e-9, math.nan, "none"])
def test_an_image_with_an_impossible_pixel_size_and_voltage_is_kept(size: Any) -> None:
    result = SimpleNamespace(pixel_size=SimpleNamespace(x=size, y=1e-9), pixel_size_x_unit="m")
    xml = "<AccelerationVoltage>unknown</AccelerationVoltage>"
    image = SimpleNamespace(
        metadata=SimpleNamespace(binary_result=result, metadata_as_xml=xml),
        data=np.zeros((4, 4), "<u2"),
    )
    options = images.check_options("camera_image", {}, ["HAADF"], ["BM-Ceta"])
    axes = images.axes_of(image, (4, 4), options)
    metadata = images.metadata_of(image, options, axes)
    frame = checked(Exposure(image.data, axes, metadata, 0.0, 1.0))
    assert [axis["units"] for axis in frame.axes] == ["m", "px"]
    assert "beam_energy" not in frame.metadata and "x axis" in frame.metadata["warning"]
