import time

import numpy as np
import pytest

from bluesky_em.acquisition.sim import Beam, digital_micrograph
from bluesky_em.acquisition.sim._digital_micrograph import DigitalMicrograph
from bluesky_em.acquisition.sim._imaging_filter import ImagingFilter, energy_settle

ROI = (1, 130, 3, 894, 0, 1154, 2048)


@pytest.fixture
def dm() -> DigitalMicrograph:
    return digital_micrograph(beam=Beam(blanked=False), latency=False)


def test_an_image_has_the_rows_asked_for_and_an_energy_axis(dm: DigitalMicrograph):
    image = dm.GetActiveCamera().AcquireImage(0.01, *ROI)
    assert image.GetNumArray().shape == (2, 2048)
    assert image.GetNumArray().dtype == np.float32
    assert image.GetDimensionCalibration(0, 0) == (-100.0, 0.5, "eV")
    assert image.GetDimensionCalibration(0, 1) == (200.0, 0.5, "eV")


def test_the_same_seed_gives_the_same_counts():
    one, two = (
        digital_micrograph(beam=Beam(blanked=False), seed=3, latency=False)
        .GetActiveCamera()
        .AcquireImage(0.01, *ROI)
        .GetNumArray()
        for _ in range(2)
    )
    assert np.array_equal(one, two)


@pytest.mark.parametrize("off", [{"blanked": True}, {"valves_open": False}])
def test_without_a_beam_there_is_only_dark(off: dict[str, bool]):
    beam = Beam(blanked=False)
    beam.change(**off)
    dm = digital_micrograph(beam=beam, latency=False)
    assert dm.GetActiveCamera().AcquireImage(0.01, *ROI).GetNumArray().max() < 100


def test_moving_the_probe_changes_the_spectrum():
    beam = Beam(blanked=False)
    camera = digital_micrograph(beam=beam, latency=False).GetActiveCamera()

    def oxygen() -> float:
        spectrum = camera.AcquireImage(1.0, *ROI).GetNumArray().sum(axis=0)
        return spectrum[1268:1300].mean() / spectrum[1230:1260].mean()

    on_the_flake = oxygen()
    beam.change(x=0.95, y=0.95)
    assert on_the_flake > 1.2 > oxygen()


def test_an_image_has_the_tags_of_a_real_one(dm: DigitalMicrograph):
    tags = dm.GetActiveCamera().AcquireImage(0.01, *ROI).GetTagGroup()
    assert tags.GetTagAsString("Meta Data:Signal") == (True, "EELS")
    assert tags.GetTagAsFloat("Microscope Info:Voltage") == (True, 200e3)
    assert tags.GetTagAsFloat("No:Such:Tag") == (False, 0.0)


def test_the_pixels_of_a_deleted_image_are_garbage(dm: DigitalMicrograph):
    image = dm.GetActiveCamera().AcquireImage(0.01, *ROI)
    view = image.GetNumArray()
    dm.DeleteImage(image)
    assert np.all(view == -1)
    assert not dm.images


def test_an_image_made_before_is_filled_in_place(dm: DigitalMicrograph):
    camera = dm.GetActiveCamera()
    image = camera.CreateImageForAcquire(*ROI)
    camera.AcquireInPlace(image, 0.01, *ROI)
    assert image.GetNumArray().max() > 1000
    assert list(dm.images.values()) == [image]


def test_an_exposure_takes_its_exposure_time():
    camera = digital_micrograph(beam=Beam(blanked=False)).GetActiveCamera()
    camera.AcquireImage(0.001, *ROI)
    began = time.perf_counter()
    camera.AcquireImage(0.02, *ROI)
    assert 0.02 <= time.perf_counter() - began < 5.0


def test_the_energy_settles_as_long_as_serialem_waits():
    assert energy_settle(10) == pytest.approx(0.25)
    assert energy_settle(500) == pytest.approx(2.58, abs=0.01)
    moving = ImagingFilter()
    moving.set_energy_loss(500.0)
    assert moving.actual_energy_loss() < 500.0
    still = ImagingFilter(latency=False)
    still.set_energy_loss(500.0)
    assert still.actual_energy_loss() == 500.0
