"""Values of every kind given to the instruments: within limits, or refused in words."""

import asyncio
import math
from dataclasses import asdict
from typing import Any

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from bluesky_em.acquisition.client import InstrumentClient
from bluesky_em.acquisition.instrument_pc.autoscript.beam import READ_BACK_TOLERANCE
from bluesky_em.acquisition.instrument_pc.autoscript.driver import MicroscopeDriver
from bluesky_em.acquisition.instrument_pc.gatan.driver import SpectrometerDriver
from bluesky_em.acquisition.instrument_pc.server import AcquisitionServer
from bluesky_em.acquisition.sim import Beam, autoscript, digital_micrograph
from bluesky_em.detector._signals import ServerSignal

HUGE = 10**400
LIKELY = st.sampled_from(
    [
        0,
        0.1,
        0.25,
        0.5,
        1,
        2,
        128,
        512,
        1e-6,
        1e-9,
        532.1,
        -0.3,
        True,
        False,
        "5 mm",
        "HAADF",
        "0.5",
    ]
)
NUMBERS = st.one_of(
    LIKELY, st.floats(), st.floats(-1, 1), st.integers(), st.just(HUGE), st.just(-HUGE),
    st.floats().map(np.float64), st.floats(width=32).map(np.float32), st.just(np.uint8(7)),
)  # fmt: skip
VALUES = st.one_of(
    NUMBERS, st.none(), st.text(max_size=5), st.binary(max_size=3), st.just([0.5, 2.0]),
    st.just({"value": 1}), st.just(np.arange(3.0)), st.just(np.array(0.5)), st.just(float),
)  # fmt: skip
REGIONS = st.one_of(
    st.tuples(st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0.1, 0.5)),
    st.lists(st.floats(0, 1) | NUMBERS, min_size=4, max_size=4),
)
STRAY = {
    "x": READ_BACK_TOLERANCE,
    "y": READ_BACK_TOLERANCE,
}  # the paused beam reads back a little off


OPTIONS = {
    "eels": {"exposure": st.floats(1e-6, 5.0), "frames": st.integers(1, 3)},
    "scan_image": {
        "detector": st.sampled_from(["HAADF", "BF"]), "size": st.sampled_from([128, 128.0, 4096]),
        "dwell": st.floats(1e-9, 1e-2), "region": REGIONS,
    },
    "camera_image": {
        "camera": st.just("BM-Ceta"), "size": st.sampled_from([512, 1024]),
        "exposure": st.floats(1e-7, 10.0),
    },
    "ccd": {},
}  # fmt: skip


class Instrument:
    """An acquisition server of a simulated instrument, with its beam, in this process."""

    def __init__(self, vendor: str):
        self.beam = Beam(blanked=vendor == "autoscript")
        if vendor == "gatan":
            self.driver: Any = SpectrometerDriver(digital_micrograph(beam=self.beam, latency=False))
        else:
            self.driver = MicroscopeDriver(autoscript(beam=self.beam, latency=False))
        self.server = AcquisitionServer(self.driver, None)  # whose spool is not used

    def state(self) -> dict[str, Any]:
        names = [name for name in self.driver.settings() if name not in ("beam_x", "beam_y")]
        return {**{name: self.server.get(name) for name in names}, **asdict(self.beam.now)}


@st.composite
def settings_and_values(draw: st.DrawFn) -> tuple[str, str, Any]:
    """A vendor's setting, and a value that may be right or anything."""
    vendor = draw(st.sampled_from(["gatan", "autoscript"]))
    known = Instrument(vendor).driver.settings()
    name = draw(st.sampled_from([*known, "voltage"]))
    about = known.get(name, {})
    right: st.SearchStrategy[Any] = st.booleans()
    if about.get("limits"):
        right = st.floats(*about["limits"])
    elif about.get("choices"):
        right = st.sampled_from(about["choices"])
    return vendor, name, draw(right | VALUES)


@st.composite
def exposures(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A detector, and options of which one may be anything."""
    detector = draw(st.sampled_from([*OPTIONS]))
    options = draw(st.fixed_dictionaries({}, optional=OPTIONS[detector]))
    if draw(st.booleans()):
        options[draw(st.sampled_from([*OPTIONS[detector], "speed"]))] = draw(VALUES)
    return detector, options


def tells(exc: Exception, value: Any) -> bool:
    """Whether an error shows the value that was refused."""
    shown = [repr(value)]
    try:
        shown.append(f"{float(value):.6g}")
    except (TypeError, ValueError, OverflowError):
        pass
    return any(each in str(exc) for each in shown)


@given(settings_and_values())
@example(("autoscript", "beam_x", HUGE))
@example(("gatan", "energy_offset", HUGE))
def test_a_value_is_set_within_its_limits_or_refused_with_them_and_nothing_moves(
    setting: tuple[str, str, Any],
):
    vendor, name, value = setting
    there = Instrument(vendor)
    about, before = there.driver.settings().get(name), there.state()
    try:
        back = there.server.set(name, value)
    except ValueError as exc:
        assert name in str(exc)
        assert there.state() == before
        if about and about["writable"]:
            assert tells(exc, value)
            bounds = about["choices"] or about["limits"] or [True, False]
            assert all(str(bound) in str(exc) or f"{bound:.6g}" in str(exc) for bound in bounds)
    else:
        assert about["writable"]
        assert type(back) is {"float": float, "str": str, "bool": bool}[about["dtype"]]
        after = there.state()
        for key in before.keys() - {name, name.removeprefix("beam_")}:
            assert after[key] == before[key] or (
                key in STRAY and abs(after[key] - before[key]) < STRAY[key]
            )
        if about["choices"]:
            assert back in about["choices"]
        if about["limits"]:
            low, high = about["limits"]
            assert low <= after[name.removeprefix("beam_")] <= high
            assert abs(after[name.removeprefix("beam_")] - back) <= STRAY.get(
                name.removeprefix("beam_"), 0.0
            )


@given(exposures())
@example(("scan_image", {"dwell": HUGE}))
@example(("scan_image", {"size": 512.0}))
@example(("scan_image", {"region": [0.3, 0.3, 1e-310, 0.5]}))
@example(("eels", {"exposure": HUGE}))
def test_an_exposure_is_possible_or_refused_before_the_beam_is_on(exposure: tuple[str, dict]):
    detector, options = exposure
    there = Instrument("gatan" if detector == "eels" else "autoscript")
    before = there.state()
    try:
        shape, dtype = there.server.layout(detector, options)
    except ValueError as exc:
        assert any(word in str(exc) for word in [detector, *options])
        there.beam.change = None  # type: ignore[method-assign] (a test that unblanks fails)
        try:
            there.driver.expose(detector, options)
        except ValueError as again:
            assert str(again) == str(exc)
        else:
            raise AssertionError("this exposure was to be refused")
    else:
        assert all(type(side) is int and side > 0 for side in shape)
        if math.prod(shape) > 128 * 128 or options.get("frames", 1) != 1:
            return
        taken = there.driver.expose(detector, options)
        assert ([*taken.array.shape], taken.array.dtype.str) == (shape, dtype)
        for axis, side in zip(taken.axes, shape, strict=True):
            assert axis["size"] == side
            assert math.isfinite(axis["offset"])
            assert math.isfinite(axis["scale"])
    assert there.state() == before


@given(
    st.sampled_from(
        [("gatan", "energy_offset", float), ("gatan", "aperture", str),
         ("autoscript", "defocus", float), ("autoscript", "beam_x", float),
         ("autoscript", "beam_blanked", bool)]
    ),
    st.lists(VALUES, min_size=1, max_size=3),
)  # fmt: skip
@example(("autoscript", "beam_blanked", bool), ["False", math.nan, [], 0])
def test_a_signal_takes_what_the_instrument_takes_and_remembers_nothing_else(
    setting: tuple[str, str, type], values: list[Any]
):
    vendor, name, datatype = setting
    there = Instrument(vendor)
    signal = ServerSignal(datatype, "PYRO:server@127.0.0.1:1", name)

    class Here(InstrumentClient):
        async def _call(self, method: str, *args: Any, **_: Any) -> Any:
            assert all(type(arg) in (str, float, bool) for arg in args)  # what can travel
            return getattr(there.server, method)(*args)

    signal._server = Here("PYRO:server@127.0.0.1:1")

    async def put_all() -> None:
        await signal.connect(1.0)
        for value in values:
            setpoint, before = await signal.get_setpoint(), there.state()
            try:
                await signal.put(value)
            except (ValueError, TypeError) as exc:
                assert name in str(exc)
                assert tells(exc, value)
                assert there.state() == before
                assert await signal.get_setpoint() == setpoint
            else:
                assert datatype is not bool or value is None or isinstance(value, (bool, np.bool_))
                assert type(await signal.get_value()) is datatype

    asyncio.run(put_all())
