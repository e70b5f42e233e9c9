"""Maps of the look-alike: the rows that the driver takes, and the maps that it refuses."""

from typing import Any

import numpy as np
import pytest

from bluesky_em.acquisition import sim
from bluesky_em.acquisition.instrument_pc.gatan.driver import SpectrometerDriver


def driver_of(module: Any, **means: Any) -> SpectrometerDriver:
    lines = sim.LineReader(module)
    return SpectrometerDriver(module, **{"scan_range": sim.SCAN_RANGE, "read_line": lines} | means)


@pytest.fixture
def module() -> Any:
    return sim.digital_micrograph(beam=sim.Beam(blanked=False), latency=False)


def scan(lines: int, points: int, sync: str = "hardware", **other: Any) -> dict[str, Any]:
    return {"shape": [lines, points], "region": [0.0, 0.0, 1.0, 1.0], "sync": sync, **other}


def test_a_hardware_map_comes_line_by_line_with_the_dark_field_and_its_place(module: Any):
    orders = {"eels": {"exposure": 0.01}, "adf": {}}
    rows = list(driver_of(module).fly(orders, 10, scan(3, 4)))
    assert [len(row["eels"].array) for row in rows] == [4, 4, 2]
    assert rows[0]["eels"].array.shape == (4, 2048) and rows[0]["adf"].array.shape == (4,)
    assert rows[0]["eels"].array.dtype == rows[0]["adf"].array.dtype == np.dtype("<f4")
    facts, (energy,) = rows[0]["eels"].metadata, rows[0]["eels"].axes
    y, x = facts["scan"]
    assert (y["size"], x["size"], y["units"]) == (3, 4, "m")
    assert x["scale"] == pytest.approx(200e-9 / 4) and x["offset"] == pytest.approx(-75e-9)
    assert (energy["offset"], energy["scale"], energy["units"]) == (-100.0, 0.5, "eV")
    assert facts["beam_energy"] == 200.0 and facts["convergence_angle"] == 21.0
    assert facts["dwell_time"] == facts["exposure"] == 0.01
    assert module.images == {}


def test_a_software_map_moves_the_probe_and_sends_it_to_safety(module: Any):
    rows = list(driver_of(module).fly({"eels": {"exposure": 0.01}}, 6, scan(2, 3, "software")))
    assert len(rows) == 6 and rows[0]["eels"].array.shape == (1, 2048)
    assert len({float(row["eels"].array.sum()) for row in rows}) == 6
    assert rows[5]["eels"].metadata["scan"][0]["units"] == ""  # fractions of the scan
    assert module.beam_state().x == 0.5  # not where the last point was


def test_a_map_that_is_ended_early_sends_the_probe_to_safety_too(module: Any):
    rows = driver_of(module).fly({"eels": {"exposure": 0.01}}, 6, scan(2, 3, "software"))
    next(rows)
    rows.close()
    assert module.beam_state().x == 0.5


def test_a_blanked_beam_gives_dark_lines(module: Any):
    dark = sim.digital_micrograph(beam=sim.Beam(blanked=True), latency=False)
    light, none = (
        next(driver_of(m).fly({"eels": {"exposure": 0.01}}, 4, scan(1, 4)))["eels"].array
        for m in (module, dark)
    )
    assert light.sum() > 100 * abs(none.sum())


@pytest.mark.parametrize("wrong, said", [
    (scan(0, 4), "lines is 0; it must lie between 1 and 4096"),
    (scan(4, 5000), "points is 5000"),
    (scan(4, 4, region=[0.5, 0.0, 0.6, 0.5]), "must stay inside the scan"),
    (scan(4, 4, region=[0.0, 0.0, 0.0, 0.5]), "must stay inside the scan"),
])  # fmt: skip
def test_an_impossible_map_is_refused_before_anything_moves(
    module: Any, wrong: dict[str, Any], said: str
):
    with pytest.raises(ValueError, match=said):
        driver_of(module).check_fly_scan("eels", {}, wrong)


def test_a_spectrometer_reports_how_it_can_take_maps(module: Any):
    driver = driver_of(module, read_line=None)
    assert driver.identity()["maps"] == "software"
    with pytest.raises(ValueError, match="synchronised by hardware cannot be taken .* software"):
        driver.check_fly_scan("eels", {}, scan(4, 4))
    with pytest.raises(ValueError, match="can: none"):
        driver_of(module, read_line=None, scan_range=None).check_fly_scan("eels", {}, scan(4, 4))


def test_several_frames_a_point_need_software(module: Any):
    with pytest.raises(ValueError, match="frames is 3; a map synchronised by hardware takes 1"):
        driver_of(module).check_fly_scan("eels", {"frames": 3}, scan(4, 4))


def test_a_line_that_would_take_too_long_is_refused(module: Any):
    driver = driver_of(module)
    with pytest.raises(
        ValueError,
        match="A line of 400 points .* takes 40 s and cannot be ended.*30 s",
    ):
        driver.check_fly_scan("eels", {"exposure": 0.1}, scan(2, 400))
    driver.check_fly_scan("eels", {"exposure": 0.1}, scan(2, 400, "software"))


def test_the_dark_field_is_recorded_only_beside_spectra_in_a_hardware_map(module: Any):
    driver = driver_of(module)
    for where in (None, scan(2, 2, "software")):
        with pytest.raises(ValueError, match="adf is recorded only beside spectra"):
            driver.check_fly_scan("adf", {}, where)
    with pytest.raises(ValueError, match="adf cannot be recorded without eels"):
        driver.fly({"adf": {}}, 4, scan(2, 2))
    with pytest.raises(ValueError, match="adf cannot be exposed alone"):
        driver.expose("adf", {})
