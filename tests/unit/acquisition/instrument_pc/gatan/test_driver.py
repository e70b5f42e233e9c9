import numpy as np
import pytest

from bluesky_em.acquisition.instrument_pc.gatan.driver import SpectrometerDriver
from bluesky_em.acquisition.sim import Beam, digital_micrograph
from bluesky_em.acquisition.sim._digital_micrograph import DigitalMicrograph
from bluesky_em.acquisition.sim._imaging_filter import IMAGING


@pytest.fixture
def dm() -> DigitalMicrograph:
    return digital_micrograph(beam=Beam(blanked=False), latency=False)


@pytest.fixture
def driver(dm: DigitalMicrograph) -> SpectrometerDriver:
    return SpectrometerDriver(dm)


def test_a_spectrum_has_an_energy_axis_and_facts(driver: SpectrometerDriver):
    exposure = driver.expose("eels", {"exposure": 0.01})
    assert exposure.array.shape == (2048,)
    assert exposure.array.dtype == np.dtype("<f4")
    assert exposure.array.flags.c_contiguous
    assert exposure.axes == [
        {"name": "energy", "units": "eV", "offset": -100.0, "scale": 0.5, "size": 2048}
    ]
    assert exposure.array.argmax() == 200
    assert exposure.metadata["beam_energy"] == 200.0
    assert exposure.metadata["saturation_fraction"] == 0.0
    assert exposure.started <= exposure.ended


def test_the_layout_is_known_without_exposing(driver: SpectrometerDriver, dm: DigitalMicrograph):
    assert driver.layout("eels", {"frames": 3}) == ((2048,), "<f4")
    assert not dm.images


def test_frames_are_added_up(driver: SpectrometerDriver):
    one = driver.expose("eels", {"exposure": 0.001}).array.sum()
    ten = driver.expose("eels", {"exposure": 0.001, "frames": 10})
    assert ten.array.dtype == np.dtype("<f4")
    assert ten.array.sum() == pytest.approx(10 * one, rel=0.01)


def test_no_image_is_left_in_digital_micrograph(driver: SpectrometerDriver, dm: DigitalMicrograph):
    driver.expose("eels", {"frames": 3})
    assert not dm.images


def test_the_energy_offset_moves_the_axis_and_reads_back(driver: SpectrometerDriver):
    assert driver.set("energy_offset", 532.1) == 532.1
    assert driver.get("energy_offset") == 532.1
    exposure = driver.expose("eels", {})
    assert exposure.axes[0]["offset"] == pytest.approx(432.1)


def test_a_tiny_change_of_energy_is_not_made(driver: SpectrometerDriver):
    driver.set("energy_offset", 100.0)
    assert driver.set("energy_offset", 100.05) == 100.0


def test_an_energy_out_of_limits_is_refused_with_the_limits(driver: SpectrometerDriver):
    with pytest.raises(ValueError, match="energy_offset is 5000 eV; .* between -200 and 3000 eV"):
        driver.set("energy_offset", 5000)


def test_an_energy_that_does_not_arrive_is_an_error(
    driver: SpectrometerDriver, dm: DigitalMicrograph, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(dm.filter, "set_energy_loss", lambda energy: None)
    with pytest.raises(RuntimeError, match="set to 50.0 eV but reads back 0.0 eV"):
        driver.set("energy_offset", 50)


def test_dispersion_and_aperture_are_set_by_value(driver: SpectrometerDriver):
    assert driver.set("dispersion", 0.25) == 0.25
    assert driver.set("aperture", "2.5 mm") == "2.5 mm"
    assert driver.set("aperture", 1) == "5 mm"
    assert driver.expose("eels", {}).axes[0]["scale"] == 0.25


def test_an_unknown_dispersion_is_refused_with_the_choices(driver: SpectrometerDriver):
    with pytest.raises(ValueError, match=r"dispersion is 0.3; it must be one of 1.0, 0.5, .* eV"):
        driver.set("dispersion", 0.3)


def test_a_setting_without_its_function_is_not_writable(dm: DigitalMicrograph):
    dm.missing_functions = {"IFCSetActiveDispersions", "IFWaitForFilter", "IFCGetFilterMode"}
    driver = SpectrometerDriver(dm)
    assert not driver.settings()["dispersion"]["writable"]
    with pytest.raises(ValueError, match="dispersion cannot be changed from here"):
        driver.set("dispersion", 0.25)
    assert driver.set("energy_offset", 50.0) == 50.0
    assert driver.get("spectroscopy_mode") is True


def test_a_wrong_dispersion_map_is_noticed_in_the_image(dm: DigitalMicrograph):
    driver = SpectrometerDriver(dm, dispersions={2: 1.0, 3: 0.5})
    exposure = driver.expose("eels", {})
    assert exposure.axes[0]["scale"] == 0.5
    assert "Correct the map" in exposure.metadata["warning"]
    with pytest.raises(RuntimeError, match="calibrated to 0.5 eV/channel"):
        driver.set("dispersion", 1.0)


def test_every_setting_can_be_read_in_its_type(driver: SpectrometerDriver):
    types = {"float": float, "bool": bool, "str": str}
    for name, setting in driver.settings().items():
        assert type(driver.get(name)) is types[setting["dtype"]]


def test_in_imaging_mode_no_spectrum_is_taken(driver: SpectrometerDriver, dm: DigitalMicrograph):
    dm.filter.mode = IMAGING
    with pytest.raises(RuntimeError, match="not in spectroscopy mode"):
        driver.expose("eels", {})


def test_with_the_camera_retracted_no_spectrum_is_taken(
    driver: SpectrometerDriver, dm: DigitalMicrograph
):
    dm.camera.inserted = False
    with pytest.raises(RuntimeError, match="camera is retracted"):
        driver.expose("eels", {})


@pytest.mark.parametrize(
    ("detector", "options", "words"),
    [
        ("ccd", {}, "no detector 'ccd'.*has: eels"),
        ("eels", {"time": 1}, "no option 'time'"),
        ("eels", {"exposure": 6}, "exposure is 6 s; it must lie between 1e-06 and 5 s"),
        ("eels", {"exposure": float("nan")}, "exposure is nan"),
        ("eels", {"frames": 0}, "frames is 0"),
        ("eels", {"frames": 1.5}, "whole number"),
        ("eels", {"exposure": "long"}, "give a number"),
    ],
)
def test_a_wrong_exposure_is_refused_in_words(
    driver: SpectrometerDriver, detector: str, options: dict, words: str
):
    with pytest.raises(ValueError, match=words):
        driver.expose(detector, options)


def test_abort_ends_a_running_exposure_between_frames(
    driver: SpectrometerDriver, dm: DigitalMicrograph
):
    class AbortingBeam(Beam):
        def snapshot(self):  # the camera looks at the beam as each frame begins
            driver.abort()
            return super().snapshot()

    dm._beam = AbortingBeam()
    with pytest.raises(RuntimeError, match="aborted after 1 of 5 frames"):
        driver.expose("eels", {"frames": 5})
    assert not dm.images


def test_abort_while_idle_does_nothing(driver: SpectrometerDriver):
    driver.abort()
    assert driver.expose("eels", {}).array.size == 2048


def test_parking_and_identity(driver: SpectrometerDriver):
    driver.park()
    assert driver.identity()["vendor"] == "Gatan"
    assert driver.identity()["simulated"] is True
