import math

import numpy as np
import pytest

from bluesky_em.acquisition.instrument_pc.autoscript.driver import MicroscopeDriver
from bluesky_em.acquisition.sim import Beam, autoscript
from bluesky_em.acquisition.sim._autoscript import Autoscript


@pytest.fixture
def beam() -> Beam:
    return Beam()


@pytest.fixture
def module(beam: Beam) -> Autoscript:
    return autoscript(beam=beam, latency=False)


@pytest.fixture
def driver(module: Autoscript) -> MicroscopeDriver:
    return MicroscopeDriver(module)


def test_a_scan_image_shows_the_sample_around_zero(driver: MicroscopeDriver):
    exposure = driver.expose("scan_image", {"size": 256, "dwell": 1e-5})
    assert exposure.array.dtype == np.dtype("<u2")
    assert exposure.array.max() > 2 * np.median(exposure.array)
    y, x = exposure.axes
    assert (y["name"], x["name"], x["units"]) == ("y", "x", "m")
    assert x["offset"] + x["scale"] * (x["size"] - 1) / 2 == pytest.approx(0, abs=1e-15)
    assert x["scale"] * x["size"] == pytest.approx(200e-9)
    assert exposure.metadata["beam_energy"] == 200.0


def test_a_region_is_a_window_of_the_whole_scan(driver: MicroscopeDriver):
    options = {"size": 256, "dwell": 1e-4, "region": [0.25, 0.5, 0.5, 0.25]}
    whole = driver.expose("scan_image", {"size": 256, "dwell": 1e-4})
    window = driver.expose("scan_image", options)
    assert window.array.shape == (64, 128)
    assert driver.layout("scan_image", options) == ((64, 128), "<u2")
    assert window.array.mean() == pytest.approx(whole.array[128:192, 64:192].mean(), rel=0.05)
    assert window.axes[0]["offset"] == pytest.approx(whole.axes[0]["scale"] * 0.5)


@pytest.mark.parametrize("size", [512, 1024])
def test_a_camera_image_has_rings_around_a_bright_disk(driver: MicroscopeDriver, size: int):
    exposure = driver.expose("camera_image", {"size": size, "exposure": 0.01})
    assert exposure.array.shape == driver.layout("camera_image", {"size": size})[0]
    assert exposure.array[size // 2, size // 2] > 10 * np.median(exposure.array)
    assert exposure.axes[0]["units"] == "1/m"


def test_the_beam_is_on_only_while_acquiring(driver: MicroscopeDriver, beam: Beam):
    exposure = driver.expose("scan_image", {"size": 128, "dwell": 1e-5})
    assert exposure.array.mean() > 250
    assert beam.now.blanked


def test_a_beam_that_was_on_stays_on(driver: MicroscopeDriver, beam: Beam):
    driver.set("beam_blanked", False)
    driver.expose("scan_image", {"size": 128})
    assert not beam.now.blanked


def test_a_failed_acquisition_leaves_the_beam_blanked(
    driver: MicroscopeDriver, module: Autoscript, beam: Beam
):
    driver.set("beam_blanked", False)
    module.server.acquisition_fails = True
    with pytest.raises(RuntimeError, match="did not take a scan_image: Appl.*Acquisition failed"):
        driver.expose("scan_image", {"size": 128})
    assert beam.now.blanked


def test_closed_valves_give_a_dark_image(driver: MicroscopeDriver, beam: Beam):
    beam.change(valves_open=False)
    assert driver.get("column_valves") == "Closed"
    assert driver.expose("scan_image", {"size": 128, "dwell": 1e-5}).array.max() < 260


def test_moving_one_coordinate_leaves_the_other_where_it_was_set(
    driver: MicroscopeDriver, beam: Beam
):
    driver.set("beam_y", 0.25)
    for x in np.linspace(0, 1, 20):
        assert driver.set("beam_x", x) == pytest.approx(x, abs=0.01)
    assert (beam.now.x, beam.now.y) == (1.0, 0.25)


def test_a_beam_that_was_moved_from_elsewhere_keeps_its_new_position(
    driver: MicroscopeDriver, beam: Beam
):
    driver.set("beam_y", 0.25)
    beam.change(y=0.75)
    driver.set("beam_x", 0.1)
    assert beam.now.y == pytest.approx(0.75, abs=0.01)


def test_every_setting_can_be_read_in_its_type(driver: MicroscopeDriver):
    types = {"float": float, "bool": bool, "str": str}
    for name, setting in driver.settings().items():
        assert type(driver.get(name)) is types[setting["dtype"]]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("field_of_view", 50e-9),
        ("defocus", -2e-6),
        ("camera_length", 0.3),
        ("scan_rotation", 0.5),
        ("stage_x", 1e-5),
        ("stage_alpha", 0.2),
        ("stage_beta", -0.1),
        ("beam_blanked", False),
    ],
)
def test_a_setting_reads_back_what_was_set(driver: MicroscopeDriver, name: str, value: float):
    assert driver.set(name, value) == value
    assert driver.get(name) == value


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("beam_x", 1.2, "beam_x is 1.2; it must lie between 0 and 1"),
        ("field_of_view", 1.0, "field_of_view is 1 m; .* between 1e-09 and 0.001 m"),
        ("stage_x", 0.1, "stage_x is 0.1 m; .* between -0.001 and 0.001 m"),
        ("stage_alpha", math.radians(36), "stage_alpha is .* between -0.610865 and 0.610865 rad"),
        ("stage_beta", math.nan, "stage_beta is nan"),
        ("camera_length", 0.2, "one of 0.06, 0.098"),
        ("beam_blanked", 1, "give True or False"),
        ("high_tension", 80e3, "high_tension can be read but not set"),
        ("focus", 0, "no setting 'focus'"),
        ("defocus", "much", "give a number"),
    ],
)
def test_a_wrong_value_is_refused_in_words(
    driver: MicroscopeDriver, name: str, value: float, words: str
):
    with pytest.raises(ValueError, match=words):
        driver.set(name, value)


def test_beta_is_refused_on_a_single_tilt_holder(driver: MicroscopeDriver, module: Autoscript):
    module.server.holder = "SingleTilt"
    assert math.isnan(driver.get("stage_beta"))
    with pytest.raises(ValueError, match="holder is SingleTilt"):
        driver.set("stage_beta", 0.1)


def test_a_moving_stage_is_not_moved(driver: MicroscopeDriver, module: Autoscript):
    module.server.stage_moving = True
    with pytest.raises(RuntimeError, match="moving already"):
        driver.set("stage_x", 1e-6)


def test_one_axis_moves_alone(driver: MicroscopeDriver, beam: Beam):
    beam.change(stage_y=2e-6, stage_alpha=0.1)
    driver.set("stage_x", 1e-6)
    assert (beam.now.stage_x, beam.now.stage_y, beam.now.stage_alpha) == (1e-6, 2e-6, 0.1)


@pytest.mark.parametrize(
    ("detector", "options", "words"),
    [
        ("eels", {}, "no detector 'eels'"),
        ("scan_image", {"exposure": 1}, "no option 'exposure'"),
        ("scan_image", {"detector": "EBSD"}, "one of HAADF, DF4"),
        ("scan_image", {"size": 300}, "size is 300; it must be one of 128, 256"),
        ("scan_image", {"dwell": 1.0}, "dwell is 1 s; it must lie between 1e-09 and 0.01 s"),
        ("scan_image", {"dwell": 1e-2, "size": 512}, "takes 2621.44 s; 600 s is the limit"),
        ("scan_image", {"region": [0.5, 0, 0.6, 1]}, "stay inside the scan"),
        ("scan_image", {"region": 3}, "left, top, width, height"),
        ("camera_image", {"camera": "Falcon 9"}, "one of BM-Ceta"),
        ("camera_image", {"exposure": 100}, "exposure is 100 s"),
    ],
)
def test_a_wrong_exposure_is_refused_before_the_beam_is_on(
    driver: MicroscopeDriver, beam: Beam, detector: str, options: dict, words: str
):
    with pytest.raises(ValueError, match=words):
        driver.expose(detector, options)
    assert beam.now.blanked


def test_the_names_of_older_servers_work_too(module: Autoscript, beam: Beam):
    module.server.old_names = True
    driver = MicroscopeDriver(module)
    assert driver.set("beam_blanked", False) is False
    assert driver.set("defocus", 1e-6) == 1e-6
    driver.expose("scan_image", {"size": 128})
    assert driver.set("beam_blanked", True) is True


def test_a_lost_connection_says_what_to_do(driver: MicroscopeDriver):
    driver._client.disconnect()
    with pytest.raises(RuntimeError, match="did not read defocus: .*restart this acquisition"):
        driver.get("defocus")


def test_parking_blanks_the_beam_and_never_raises(
    driver: MicroscopeDriver, beam: Beam, caplog: pytest.LogCaptureFixture
):
    driver.set("beam_blanked", False)
    driver.park()
    assert beam.now.blanked
    driver._client.disconnect()
    driver.park()
    assert "could not be blanked" in caplog.text


def test_identity_names_the_microscope(driver: MicroscopeDriver):
    identity = driver.identity()
    assert identity["vendor"] == "Thermo Fisher"
    assert identity["simulated"] is True


def test_abort_while_idle_does_nothing(driver: MicroscopeDriver):
    driver.abort()
    assert driver.expose("scan_image", {"size": 128}).array.size == 128 * 128


def test_the_same_seed_gives_the_same_image():
    one, two = (
        MicroscopeDriver(autoscript(beam=Beam(), seed=3, latency=False))
        .expose("scan_image", {"size": 128})
        .array
        for _ in range(2)
    )
    assert np.array_equal(one, two)
