"""The contract of `Driver`, checked for every driver there is, that of the tests too."""

import inspect
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgpack
import numpy as np
import pytest

from bluesky_em.acquisition.instrument_pc.autoscript.driver import MicroscopeDriver
from bluesky_em.acquisition.instrument_pc.driver import Driver
from bluesky_em.acquisition.instrument_pc.gatan.driver import SpectrometerDriver
from bluesky_em.acquisition.sim import Beam, autoscript, digital_micrograph
from bluesky_em.acquisition.sim._beam import BeamState
from tests.support.fake_server import PATIENCE, FakeDriver

TYPES = {"float": float, "str": str, "bool": bool}


class Meanwhile:
    """Calls `action` while an exposure runs."""

    action: Callable[[], None] | None = None

    def __call__(self) -> None:
        if self.action is not None:
            self.action()


NEVER = Meanwhile()


class WatchedBeam(Beam):
    """The look-alikes look at the beam at each exposure."""

    def __init__(self, meanwhile: Meanwhile, **start: Any):
        super().__init__(**start)
        self._meanwhile = meanwhile

    @property
    def now(self) -> BeamState:
        self._meanwhile()
        return super().now


def gatan(meanwhile: Meanwhile = NEVER) -> Driver:
    beam = WatchedBeam(meanwhile, blanked=False)
    return SpectrometerDriver(digital_micrograph(beam=beam, latency=False))


def thermo_fisher(meanwhile: Meanwhile = NEVER) -> Driver:
    return MicroscopeDriver(autoscript(beam=WatchedBeam(meanwhile), latency=False))


def fake(meanwhile: Meanwhile = NEVER) -> Driver:
    driver = FakeDriver()
    driver.meanwhile = meanwhile
    return driver


class Create(Protocol):
    def __call__(self, meanwhile: Meanwhile = ..., /) -> Driver: ...


@dataclass
class Case:
    """A driver, and a small exposure of each of its detectors."""

    create: Create
    exposures: dict[str, dict[str, Any]]
    values: dict[str, Any]
    """for settings that have neither limits nor choices"""
    tolerance: dict[str, float] = field(default_factory=dict)
    """of what reads back a little off"""


CASES = {
    "gatan": Case(
        gatan,
        {"eels": {"exposure": 0.001, "frames": 2}},
        {},
    ),
    "autoscript": Case(
        thermo_fisher,
        {
            "scan_image": {"size": 128, "region": [0.25, 0.5, 0.5, 0.25]},
            "camera_image": {"size": 512, "exposure": 0.001},
        },
        {"beam_blanked": False},
        {"beam_x": 0.01, "beam_y": 0.01},
    ),
    "fake": Case(fake, {"eels": {"exposure": 0.001}}, {}),
}
EXPOSURES = [
    pytest.param(case.create, detector, options, id=f"{name}-{detector}")
    for name, case in CASES.items()
    for detector, options in case.exposures.items()
]
each_driver = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
each_detector = pytest.mark.parametrize("create, detector, options", EXPOSURES)


def a_value_of(case: Case, name: str, setting: dict[str, Any]) -> Any:
    """A value that may be set, and is not the present one where there is a choice."""
    if setting["choices"]:
        return setting["choices"][-1]
    if setting["limits"]:
        low, high = setting["limits"]
        return low + (high - low) / 4
    return case.values[name]


def is_plain(value: Any) -> bool:
    return msgpack.unpackb(msgpack.packb(value)) == value


@each_driver
def test_a_driver_has_the_methods_of_the_contract_with_its_arguments(case: Case):
    driver = case.create()
    assert isinstance(driver, Driver)
    for name, method in inspect.getmembers(Driver, inspect.isfunction):
        if not name.startswith("_"):
            promised = list(inspect.signature(method).parameters)[1:]
            assert list(inspect.signature(getattr(driver, name)).parameters) == promised


@each_driver
def test_the_identity_names_the_instrument(case: Case):
    identity = case.create().identity()
    assert identity["vendor"] and identity["name"] and identity["simulated"] is True
    assert is_plain(identity)


@each_driver
def test_every_setting_is_described_and_read_in_its_type(case: Case):
    driver = case.create()
    settings = driver.settings()
    assert settings and is_plain(settings)
    assert set(driver.FIXED_IN_FLY_SCAN) <= set(settings)
    for name, setting in settings.items():
        assert set(setting) == {"units", "dtype", "writable", "limits", "choices"}
        assert type(setting["writable"]) is bool and type(setting["units"]) is str
        assert type(driver.get(name)) is TYPES[setting["dtype"]]


@each_driver
def test_a_setting_reads_back_what_was_set(case: Case):
    driver = case.create()
    writable = {name: about for name, about in driver.settings().items() if about["writable"]}
    assert writable
    for name, setting in writable.items():
        value = a_value_of(case, name, setting)
        tolerance = case.tolerance.get(name, 0.0)
        for back in (driver.set(name, value), driver.get(name)):
            assert type(back) is TYPES[setting["dtype"]]
            assert back == (pytest.approx(value, abs=tolerance) if tolerance else value)


@each_driver
def test_an_unknown_setting_is_neither_read_nor_set(case: Case):
    driver = case.create()
    with pytest.raises(ValueError, match="voltage"):
        driver.get("voltage")
    with pytest.raises(ValueError, match="voltage"):
        driver.set("voltage", 1.0)


@each_driver
def test_a_setting_that_is_not_writable_is_refused_by_name(case: Case):
    driver = case.create()
    for name, setting in driver.settings().items():
        if not setting["writable"]:
            before = driver.get(name)
            with pytest.raises(ValueError, match=name):
                driver.set(name, before)
            assert driver.get(name) == before


@each_driver
def test_a_value_beyond_the_limits_is_refused_and_nothing_moves(case: Case):
    driver = case.create()
    for name, setting in driver.settings().items():
        if not (setting["writable"] and setting["limits"]):
            continue
        before, (low, high) = driver.get(name), setting["limits"]
        for value in (low - 1.0, high + 1.0, math.nan, math.inf):
            with pytest.raises(ValueError, match=name):
                driver.set(name, value)
        assert driver.get(name) == pytest.approx(before, abs=case.tolerance.get(name, 0.0))


@each_driver
def test_a_value_that_is_no_choice_is_refused(case: Case):
    driver = case.create()
    for name, setting in driver.settings().items():
        if setting["writable"] and setting["choices"]:
            before = driver.get(name)
            with pytest.raises(ValueError, match=name):
                driver.set(name, "neither this nor that")
            assert driver.get(name) == before


@each_detector
def test_a_frame_has_the_layout_that_was_announced(
    create: Create, detector: str, options: dict[str, Any]
):
    driver = create()
    shape, dtype = driver.layout(detector, options)
    array = driver.expose(detector, options).array
    assert (array.shape, array.dtype.str) == (shape, dtype)
    assert driver.layout(detector, options) == (shape, dtype)


@each_detector
def test_every_option_has_a_default(create: Create, detector: str, options: dict[str, Any]):
    shape, dtype = create().layout(detector, {})
    assert all(type(size) is int and size > 0 for size in shape)
    assert np.dtype(dtype).str == dtype


@each_detector
def test_an_axis_for_each_dimension_fits_the_frame(
    create: Create, detector: str, options: dict[str, Any]
):
    exposure = create().expose(detector, options)
    assert [axis["size"] for axis in exposure.axes] == list(exposure.array.shape)
    for axis in exposure.axes:
        assert set(axis) == {"name", "units", "offset", "scale", "size"}
        assert math.isfinite(axis["offset"]) and math.isfinite(axis["scale"]) and axis["scale"]
    assert is_plain(exposure.axes) and is_plain(exposure.metadata)


@each_detector
def test_a_frame_is_contiguous_little_endian_and_its_own(
    create: Create, detector: str, options: dict[str, Any]
):
    driver = create()
    array = driver.expose(detector, options).array
    assert array.flags.c_contiguous and array.dtype.byteorder in "<|="
    before = array.copy()
    assert not np.shares_memory(array, driver.expose(detector, options).array)
    assert np.array_equal(array, before)  # the next exposure writes elsewhere


@each_detector
def test_an_exposure_begins_before_it_ends(create: Create, detector: str, options: dict[str, Any]):
    driver = create()
    first, second = (driver.expose(detector, options) for _ in range(2))
    assert first.started <= first.ended <= second.started <= second.ended


@each_driver
def test_an_unknown_detector_is_refused_by_name(case: Case):
    driver = case.create()
    for call in (driver.layout, driver.expose):
        with pytest.raises(ValueError, match="no_such_detector"):
            call("no_such_detector", {})
    with pytest.raises(ValueError, match="no_such_detector"):
        driver.check_fly_scan("no_such_detector", {}, None)


@each_detector
def test_an_unknown_option_is_refused_by_name(
    create: Create, detector: str, options: dict[str, Any]
):
    driver, wrong = create(), {**options, "no_such_option": 1}
    for call in (driver.layout, driver.expose):
        with pytest.raises(ValueError, match="no_such_option"):
            call(detector, wrong)
    with pytest.raises(ValueError, match="no_such_option"):
        driver.check_fly_scan(detector, wrong, None)


@each_detector
def test_a_fly_scan_at_one_place_yields_rows_of_frames(
    create: Create, detector: str, options: dict[str, Any]
):
    driver = create()
    driver.check_fly_scan(detector, options, None)
    shape, dtype = driver.layout(detector, options)
    rows = [row[detector] for row in driver.fly({detector: options}, 3)]
    assert sum(len(row.array) for row in rows) == 3
    for row in rows:
        assert (row.array.shape[1:], row.array.dtype.str) == (shape, dtype)
        assert [axis["size"] for axis in row.axes] == list(shape)


@each_detector
def test_a_row_that_was_not_kept_is_taken_again(
    create: Create, detector: str, options: dict[str, Any]
):
    rows = create().fly({detector: options}, 2)
    frames = [len(next(rows)[detector].array), len(rows.send(True)[detector].array)]
    frames += [len(row[detector].array) for row in rows]
    assert sum(frames) - frames[0] == 2


@each_detector
def test_a_fly_scan_that_was_ended_early_leaves_the_instrument_ready(
    create: Create, detector: str, options: dict[str, Any]
):
    driver = create()
    rows = driver.fly({detector: options}, 5)
    next(rows)
    rows.close()
    assert driver.expose(detector, options).array.size


@each_driver
def test_detectors_that_cannot_take_frames_together_are_refused(case: Case):
    (detector, options), *_ = case.exposures.items()
    with pytest.raises(ValueError, match="together"):
        next(case.create().fly({detector: options, "another": {}}, 2))


@each_detector
def test_an_abort_while_idle_does_not_touch_the_next_exposure(
    create: Create, detector: str, options: dict[str, Any]
):
    driver = create()
    driver.abort()
    assert driver.expose(detector, options).array.size


@each_detector
def test_an_abort_from_another_thread_returns_at_once_and_ends_the_exposure(
    create: Create, detector: str, options: dict[str, Any]
):
    meanwhile, aborted = Meanwhile(), threading.Event()
    driver = create(meanwhile)
    meanwhile.action = lambda: _in_thread(driver.abort, aborted)
    try:
        assert driver.expose(detector, options).array.size  # it could only be completed
    except RuntimeError as exc:
        assert "aborted" in str(exc)
    assert aborted.is_set()
    meanwhile.action = None
    assert driver.expose(detector, options).array.size


@each_driver
def test_parking_is_harmless_twice_and_never_raises(case: Case):
    driver = case.create()
    driver.park()
    driver.park()
    assert driver.identity()["name"]


def _in_thread(call: Callable[[], object], done: threading.Event) -> None:
    def run() -> None:
        call()
        done.set()

    threading.Thread(target=run, daemon=True).start()
    assert done.wait(PATIENCE), "it waits for the exposure"
