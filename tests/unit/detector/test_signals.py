import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from ophyd_async.core import Device, NotConnectedError, init_devices, set_mock_value

from bluesky_em.autoscript import Stage
from bluesky_em.detector._signals import ServerSignal, server_signal_r, server_signal_rw
from tests.support.fake_server import PATIENCE, FakeDriver, free_port, served, shared_client


class Filter(Device):
    """Two settings and a limit of the fake driver."""

    def __init__(self, uri: str, name: str = "filter"):
        self.energy = server_signal_rw(float, uri, "energy_offset", units="eV", precision=2)
        self.low = server_signal_r(float, uri, "energy_offset.low", units="eV")
        self.aperture = server_signal_r(str, uri, "aperture")
        super().__init__(name=name)


@pytest.fixture
def driver() -> FakeDriver:
    return FakeDriver()


@pytest.fixture
async def device(driver: FakeDriver, tmp_path: Path) -> AsyncIterator[Filter]:
    with served(driver, tmp_path) as uri:
        async with shared_client(uri):
            device = Filter(uri)
            await device.connect()
            yield device


async def test_a_value_is_read_from_the_hardware_each_time(device: Filter, driver: FakeDriver):
    assert await device.energy.get_value() == 0.0
    driver.values["energy_offset"] = 7.5  # changed at the instrument's own panel
    assert await device.energy.get_value() == 7.5
    assert (await device.energy.read())["filter-energy"]["value"] == 7.5


async def test_limits_are_signals_too(device: Filter):
    assert await device.low.get_value() == -200.0


async def test_setting_reaches_the_instrument_as_a_plain_number(device: Filter, driver: FakeDriver):
    await device.energy.set(np.float64(532.1))
    assert driver.values["energy_offset"] == 532.1
    assert type(driver.values["energy_offset"]) is float


async def test_setpoint_and_readback_are_distinguished(device: Filter):
    await device.energy.set(532.14)
    assert await device.energy.locate() == {"setpoint": 532.14, "readback": 532.1}


async def test_observers_receive_the_value_now_and_then_what_was_read_back(device: Filter):
    received: asyncio.Queue[dict] = asyncio.Queue()
    put = received.put_nowait
    device.energy.subscribe_reading(put)
    first = await asyncio.wait_for(received.get(), PATIENCE)
    await device.energy.set(100.04)
    second = await asyncio.wait_for(received.get(), PATIENCE)
    device.energy.clear_sub(put)
    assert [reading["filter-energy"]["value"] for reading in (first, second)] == [0.0, 100.0]


async def test_a_refused_value_raises_with_the_instruments_words(
    device: Filter, driver: FakeDriver
):
    with pytest.raises(ValueError, match="energy_offset is 5000.0; it must be between -200"):
        await device.energy.set(5000)
    assert driver.values["energy_offset"] == 0.0


async def test_a_refused_value_is_not_remembered_as_the_setpoint(device: Filter):
    await device.energy.set(10.0)
    with pytest.raises(ValueError, match="must be between"):
        await device.energy.set(5000)
    assert await device.energy.locate() == {"setpoint": 10.0, "readback": 10.0}


async def test_a_signal_is_described_with_units_and_the_address_of_its_server(device: Filter):
    key = (await device.energy.describe())["filter-energy"]
    assert (key["units"], key["precision"], key["dtype"]) == ("eV", 2, "number")  # type: ignore
    assert key["source"].startswith("PYRO:eels_server@127.0.0.1:")
    assert key["source"].endswith("#energy_offset")
    assert (await device.aperture.describe())["filter-aperture"]["dtype"] == "string"


async def test_only_one_callback_at_a_time(device: Filter, driver: FakeDriver):
    signal = ServerSignal(float, device.energy.source.partition("#")[0], "energy_offset")
    received: asyncio.Queue = asyncio.Queue()
    signal.set_callback(received.put_nowait)
    with pytest.raises(RuntimeError, match="callback when one is already set"):
        signal.set_callback(received.put_nowait)
    assert (await asyncio.wait_for(received.get(), PATIENCE))["value"] == 0.0
    signal.set_callback(None)


async def test_a_server_that_is_not_there_is_named_when_connecting():
    port = free_port()
    async with shared_client(f"PYRO:eels_server@127.0.0.1:{port}") as client:
        with pytest.raises(NotConnectedError) as caught:
            await Filter(client.uri).connect(timeout=PATIENCE)
    for word in ("energy", "aperture", f"127.0.0.1:{port}", "Is it running there?"):
        assert word in str(caught.value)


async def test_in_mock_mode_no_server_is_needed():
    async with init_devices(mock=True):
        device = Filter("PYRO:eels_server@nowhere:1")
    set_mock_value(device.energy, 3.0)
    assert await device.energy.get_value() == 3.0
    await device.energy.set(4.0)
    assert await device.energy.get_value() == 4.0


class StageDriver(FakeDriver):
    """Five axes, each from -1 to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.values = {f"stage_{axis}": 0.0 for axis in ("x", "y", "z", "alpha", "beta")}

    def settings(self) -> dict:
        return {name: {"limits": [-1.0, 1.0]} for name in self.values}

    def set(self, name: str, value: float) -> float:
        self.values[name] = value
        return value


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    with served(StageDriver(), tmp_path) as uri:
        async with shared_client(uri):
            stage = Stage(uri, name="stage")
            await stage.connect()
            yield stage


async def test_an_axis_has_arrived_when_its_move_is_done(stage: Stage):
    await stage.alpha.set(0.5)
    assert (await stage.alpha.read())["stage-alpha"]["value"] == 0.5
    assert (await stage.read())["stage-alpha"]["value"] == 0.5


@pytest.mark.parametrize("position", [1.5, -1.0001, float("nan"), float("inf")])
async def test_a_position_outside_the_limits_is_refused_before_anything_moves(
    stage: Stage, position: float
):
    with pytest.raises(ValueError, match=r"stage-x cannot go to .*: .* allows -1.0 to 1.0"):
        await stage.x.set(position)
    assert await stage.x.readback.get_value() == 0.0


async def test_a_staged_axis_reads_its_current_position(stage: Stage):
    await stage.x.stage()
    await stage.x.set(0.5)
    value = (await stage.x.read())["stage-x"]["value"]
    await stage.x.unstage()
    assert value == 0.5


async def test_a_watched_value_is_still_read_from_the_hardware(device: Filter, driver: FakeDriver):
    await device.energy.stage()
    assert await device.energy.get_value() == 0.0
    driver.values["energy_offset"] = 7.5
    value = await device.energy.get_value()
    await device.energy.unstage()
    assert value == 7.5
