import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from event_model import DocumentNames, compose_run, schema_validators
from ophyd_async.core import (
    NotConnectedError,
    PathProvider,
    StandardReadableFormat,
    init_devices,
    set_mock_value,
    soft_signal_rw,
)

from bluesky_em import Reference, autoscript, gatan
from bluesky_em.detector import RefDetector
from bluesky_em.errors import FrameMismatch, NotEnoughSpace, SpoolFull
from bluesky_em.files.layout import Layout
from bluesky_em.storage.path_provider import RunPathProvider
from tests.support.fake_server import (
    PATIENCE,
    FakeDriver,
    calling,
    free_port,
    served,
    shared_client,
)

RUN = "0b5c2d7e-1111-4222-8333-444455556666"


class Camera(RefDetector):
    """The fake driver's one detector."""

    def __init__(self, uri: str, path_provider: PathProvider, name: str = "cam"):
        with self.add_children_as_readables(StandardReadableFormat.CONFIG_SIGNAL):
            self.exposure = soft_signal_rw(float, 0.1, units="s")
        super().__init__(uri, "fake", path_provider=path_provider, name=name)

    async def _options(self) -> dict[str, Any]:
        return {"exposure": await self.exposure.get_value()}

    def _duration(self, options: dict[str, Any]) -> float:
        return options["exposure"]


@pytest.fixture
def driver() -> FakeDriver:
    return FakeDriver()


@pytest.fixture
def paths(tmp_path: Path) -> RunPathProvider:
    """In one open run."""
    provider = RunPathProvider(Layout(tmp_path))
    provider.opened(RUN, 0.0)
    return provider


@contextlib.asynccontextmanager
async def connected(
    driver: FakeDriver, paths: RunPathProvider, *names: str, spool_limit: int | None = None
) -> AsyncIterator[list[Camera]]:
    with served(driver, paths._layout.root / "spool", spool_limit=spool_limit) as uri:
        async with shared_client(uri):
            cameras = [Camera(uri, paths, name) for name in names]
            for camera in cameras:
                await camera.connect()
            yield cameras


@pytest.fixture
async def camera(driver: FakeDriver, paths: RunPathProvider) -> AsyncIterator[Camera]:
    async with connected(driver, paths, "cam") as (camera,):
        yield camera


async def shoot(camera: RefDetector) -> tuple[str, list[tuple[str, Any]]]:
    """One point of a plan: the reference and the documents it emits."""
    await camera.trigger()
    reference = (await camera.read())[camera.name]["value"]
    return reference, [doc async for doc in camera.collect_asset_docs()]


async def wait_for_exposure(driver: FakeDriver) -> None:
    assert await asyncio.to_thread(driver.exposing.wait, PATIENCE)


async def test_references_count_the_exposures_of_the_open_run(camera: Camera):
    references = [(await shoot(camera))[0] for _ in range(3)]
    assert references == [f"{RUN}.cam/{number}" for number in range(3)]


async def test_the_frame_behind_a_reference_waits_in_the_spool(camera: Camera, driver: FakeDriver):
    reference, _ = await shoot(camera)
    with calling(camera.uri) as client:
        assert client.call("fetch", reference, 0, 99) == driver.array.tobytes()


async def test_the_resource_comes_once_and_each_datum_is_named_by_its_reference(camera: Camera):
    first, docs = await shoot(camera)
    assert [name for name, _ in docs] == ["resource", "datum"]
    second, more = await shoot(camera)
    assert [name for name, _ in more] == ["datum"]
    assert (docs[1][1]["datum_id"], more[0][1]["datum_id"]) == (first, second)
    assert docs[1][1]["resource"] == more[0][1]["resource"] == docs[0][1]["uid"]
    assert docs[1][1]["datum_kwargs"]["metadata"] == {"exposure": 0.1}


async def test_all_documents_of_a_point_validate_against_event_model(camera: Camera):
    await camera.trigger()
    readings = await camera.read()
    docs = [document async for document in camera.collect_asset_docs()]
    for name, doc in docs:
        schema_validators[DocumentNames[name]].validate(doc)
    described = compose_run().compose_descriptor(
        name="primary", data_keys=await camera.describe(), object_keys={"cam": [*readings]}
    )
    described.compose_event(
        data={key: reading["value"] for key, reading in readings.items()},
        timestamps={key: reading["timestamp"] for key, reading in readings.items()},
        filled={"cam": False},
    )
    ended = docs[-1][1]["datum_kwargs"]["ended"]
    assert {reading["timestamp"] for reading in readings.values()} == {ended}


async def test_the_frames_are_described_as_they_come(camera: Camera, driver: FakeDriver):
    driver.array = np.zeros((2, 3), "<u2")
    before = (await camera.describe())["cam"]
    await camera.trigger()
    after = (await camera.describe())["cam"]
    assert before["shape"] == after["shape"] == [2, 3]
    assert before["dtype_numpy"] == after["dtype_numpy"] == "<u2"
    assert after["dims"] == ["axis0", "axis1"]
    assert after["external"] == "FILESTORE:"


async def test_settings_are_configuration(camera: Camera):
    assert (await camera.read_configuration())["cam-exposure"]["value"] == 0.1
    assert (await camera.describe_configuration())["cam-exposure"]["units"] == "s"
    assert (await camera.read_configuration())["cam-thumbnail"]["value"] is False


async def test_the_reading_has_the_summary_of_its_frame(camera: Camera, driver: FakeDriver):
    driver.array = np.array([1, 2, 9, 65535], "<u2")
    await camera.trigger()
    first = await camera.read()
    driver.array = np.array([1, 2, 3, 4], "<u2")
    assert {key: reading["value"] for key, reading in first.items()} == {
        "cam": f"{RUN}.cam/0", "cam-total": 65547.0, "cam-mean": 16386.75, "cam-max": 65535.0,
        "cam-saturation_fraction": 0.25,
    }  # fmt: skip
    await camera.trigger()
    assert (await camera.read())["cam-total"]["value"] == 10.0


async def test_the_summary_is_described_and_its_total_is_plotted(camera: Camera):
    keys = await camera.describe()
    assert list(keys) == ["cam", "cam-total", "cam-mean", "cam-max", "cam-saturation_fraction"]
    assert keys["cam-total"] == {
        "source": f"{camera.uri}#cam-total", "dtype": "number", "dtype_numpy": "<f8", "shape": [],
        "units": "counts", "precision": 1,
    }  # fmt: skip
    assert keys["cam-saturation_fraction"].get("units") == ""
    assert camera.hints == {"fields": ["cam-total"]}


async def test_a_fly_scan_has_frames_only_and_no_hints(camera: Camera):
    camera._fly_scan.active = True
    assert list(await camera.describe()) == ["cam"]
    assert camera.hints == {"fields": []}


async def test_a_thumbnail_comes_on_request(camera: Camera, driver: FakeDriver):
    driver.array = np.arange(128, dtype="<f4")
    await camera.thumbnail.set(True)
    key = (await camera.describe())["cam-thumbnail"]
    assert (key["dtype"], key["shape"], key.get("dtype_numpy")) == ("array", [64], "<f8")
    await camera.trigger()
    readings = await camera.read()
    assert readings["cam-thumbnail"]["value"] == [2 * i + 0.5 for i in range(64)]
    assert readings.keys() == (await camera.describe()).keys()


async def test_a_frame_that_was_not_written_at_once_has_its_thumbnail_too(
    camera: Camera, driver: FakeDriver, tmp_path: Path
):
    await camera.thumbnail.set(True)
    spool, unplugged = tmp_path / "spool", tmp_path / "unplugged"
    driver.meanwhile = lambda: spool.rename(unplugged)
    status = camera.trigger()
    status.watch(lambda **update: unplugged.rename(spool) if unplugged.exists() else None)
    await asyncio.wait_for(status.task, PATIENCE)
    assert (await camera.read())["cam-thumbnail"]["value"][:4] == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("in_a_run", [True, False])
async def test_thumbnails_that_the_descriptor_did_not_promise_are_refused_before_the_exposure(
    camera: Camera, driver: FakeDriver, paths: RunPathProvider, in_a_run: bool
):
    if not in_a_run:
        paths.closed(RUN)
    await camera.trigger()
    await camera.describe()
    await camera.thumbnail.set(True)
    with pytest.raises(FrameMismatch) as caught:
        await camera.trigger()
    assert str(caught.value) == (
        "cam-thumbnail is True now, but this run's descriptor promised no thumbnails. Set it "
        "between runs, not within one"
    )
    assert driver.calls.count("expose") == 1
    await camera.stage()
    paths.opened("another-run", 0.0)
    await camera.trigger()
    assert "cam-thumbnail" in await camera.describe()
    await camera.unstage()


async def test_the_resource_says_where_the_file_will_be(camera: Camera, paths: RunPathProvider):
    (_, resource), _ = (await shoot(camera))[1]
    file = Path(resource["root"]) / resource["resource_path"]
    assert file == paths._layout.frames_of(RUN, 0.0, "cam")
    assert resource["resource_kwargs"]["chunk_shape"] == [1, 4]
    assert resource["resource_kwargs"]["server"] == camera.uri


async def test_two_runs_in_one_stage_give_two_resources(camera: Camera, paths: RunPathProvider):
    await camera.stage()
    _, ((_, first), _) = await shoot(camera)
    paths.closed(RUN)
    paths.opened("another-run", 0.0)
    reference, docs = await shoot(camera)
    assert reference == "another-run.cam/0"
    assert docs[0][0] == "resource"
    assert docs[0][1]["uid"] != first["uid"]
    await camera.unstage()


async def test_outside_a_single_run_each_frame_has_a_resource_and_a_uid_of_its_own(
    camera: Camera, paths: RunPathProvider
):
    paths.opened("a second run", 0.0)
    points = [await shoot(camera) for _ in range(2)]
    for number, (reference, ((name, resource), (_, datum))) in enumerate(points):
        assert name == "resource"
        assert reference == f"{resource['uid']}/{number}" == datum["datum_id"]
    assert points[0][0] != points[1][0]


async def test_a_frame_that_breaks_the_descriptors_promise_is_refused(
    camera: Camera, driver: FakeDriver
):
    await camera.trigger()
    await camera.describe()
    driver.array = np.zeros((8,), "<u2")
    with pytest.raises(FrameMismatch) as caught:
        await camera.trigger()
    assert str(caught.value) == (
        f"{RUN}.cam/1: the frame has shape [8] and dtype <u2, but this run's descriptor promised "
        "[4] and <f4. Change the frame size of cam between runs, not within one"
    )


async def test_another_frame_size_is_fine_in_another_run(
    camera: Camera, driver: FakeDriver, paths: RunPathProvider
):
    await camera.trigger()
    await camera.describe()
    paths.closed(RUN)
    paths.opened("another-run", 0.0)
    driver.array = np.zeros((8,), "<u2")
    await camera.trigger()
    assert (await camera.describe())["cam"]["shape"] == [8]


async def test_reading_before_any_trigger_says_so(camera: Camera):
    with pytest.raises(RuntimeError, match="cam: no frame yet; trigger it before reading it"):
        await camera.read()


async def test_a_reference_belongs_to_one_event(camera: Camera):
    reference, _ = await shoot(camera)
    with pytest.raises(RuntimeError, match=f"{reference} is in an event already; trigger it"):
        await camera.read()


async def test_triggering_again_while_exposing_ends_the_first_status_successfully(
    camera: Camera, driver: FakeDriver
):
    driver.block.set()
    first = camera.trigger()
    await wait_for_exposure(driver)
    second = camera.trigger()
    await asyncio.gather(first, second)
    assert first.success
    assert second.success
    assert driver.calls == ["expose", "abort", "expose"]
    assert (await camera.read())["cam"]["value"] == f"{RUN}.cam/0"


@pytest.mark.parametrize("method", ["unstage", "stage"])
async def test_staging_and_unstaging_abort_a_running_exposure(
    camera: Camera, driver: FakeDriver, method: str
):
    driver.block.set()
    status = camera.trigger()
    await wait_for_exposure(driver)
    await getattr(camera, method)()
    assert driver.calls == ["expose", "abort"]
    await status


async def test_unstaging_after_the_exposure_aborts_nothing(camera: Camera, driver: FakeDriver):
    await camera.trigger()
    await camera.unstage()
    assert driver.calls == ["expose"]


async def test_after_a_pause_the_same_resource_is_emitted_again(camera: Camera):
    _, ((_, before), _) = await shoot(camera)
    await camera.pause()
    await camera.resume()
    reference, docs = await shoot(camera)
    assert [name for name, _ in docs] == ["resource", "datum"]
    assert docs[0][1] == before
    assert docs[0][1] is not before
    assert reference == f"{RUN}.cam/1"


async def test_a_frame_that_was_never_read_leaves_no_document(camera: Camera):
    await camera.trigger()
    reference, docs = await shoot(camera)
    assert [doc["datum_id"] for name, doc in docs if name == "datum"] == [reference]
    assert reference == f"{RUN}.cam/1"


async def test_an_error_of_the_instrument_fails_the_trigger_and_uses_no_number(
    camera: Camera, driver: FakeDriver
):
    driver.block.set()
    status = camera.trigger()
    await wait_for_exposure(driver)
    with calling(camera.uri) as client:
        client.call("abort")
    with pytest.raises(RuntimeError, match="aborted"):
        await status
    assert (await shoot(camera))[0] == f"{RUN}.cam/0"


@pytest.mark.parametrize("exposure", [math.inf, math.nan, -100.0, 1e300])
async def test_an_impossible_exposure_is_refused_in_the_instruments_words(
    camera: Camera, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch, exposure: float
):
    def refuse(detector: str, options: dict[str, Any]) -> None:
        raise ValueError(f"exposure is {options['exposure']} s; it must lie between 0 and 10 s")

    with monkeypatch.context() as patch:
        patch.setattr(driver, "expose", refuse)
        await camera.exposure.set(exposure)
        with pytest.raises(ValueError, match="it must lie between 0 and 10 s"):
            await camera.trigger()
    await camera.exposure.set(0.1)
    assert (await shoot(camera))[0] == f"{RUN}.cam/0"


async def test_a_detector_without_a_name_is_refused_before_it_exposes(
    driver: FakeDriver, paths: RunPathProvider
):
    async with connected(driver, paths, "") as (camera,):
        with pytest.raises(ValueError, match="give the device a name without"):
            await camera.trigger()
    assert "expose" not in driver.calls


async def test_a_server_that_is_not_there_is_named_with_host_and_port(paths: RunPathProvider):
    port = free_port()
    async with shared_client(f"PYRO:eels_server@127.0.0.1:{port}") as client:
        with pytest.raises(NotConnectedError) as caught:
            await Camera(client.uri, paths).connect(timeout=PATIENCE)
    assert f"No acquisition server answers at 127.0.0.1:{port}" in str(caught.value)
    assert "`bluesky-em serve gatan`" in str(caught.value)


async def test_a_description_before_the_first_trigger_is_of_the_next_frames(
    camera: Camera, driver: FakeDriver, paths: RunPathProvider
):
    await shoot(camera)
    paths.closed(RUN)
    paths.opened("another-run", 0.0)
    driver.array = np.zeros((8,), "<u2")
    assert (await camera.describe())["cam"]["shape"] == [8]


async def test_a_frame_that_breaks_an_early_descriptors_promise_is_refused(
    camera: Camera, driver: FakeDriver
):
    await camera.describe()
    driver.array = np.zeros((8,), "<u2")
    with pytest.raises(FrameMismatch):
        await camera.trigger()


# -- in mock mode, and the devices there are --


@pytest.fixture
async def devices(paths: RunPathProvider) -> dict[str, Any]:
    uri = "PYRO:server@nowhere:1"
    async with init_devices(mock=True):
        eels = gatan.Spectrometer(uri, path_provider=paths)
        adf = gatan.DarkField(uri, path_provider=paths)
        haadf = autoscript.ScanImage(uri, path_provider=paths)
        ceta = autoscript.CameraImage(uri, path_provider=paths)
        microscope = autoscript.Microscope(uri)
        stage = autoscript.Stage(uri)
    return {device.name: device for device in (eels, adf, haadf, ceta, microscope, stage)}


async def test_every_device_connects_reads_and_describes_in_mock_mode(devices: dict[str, Any]):
    for name, device in devices.items():
        assert device.name == name
        if isinstance(device, RefDetector):
            await device.trigger()
        reading, description = await device.read(), await device.describe()
        assert reading.keys() == description.keys(), name
        config = await device.read_configuration()
        assert config.keys() == (await device.describe_configuration()).keys(), name


@pytest.mark.parametrize("name", ["eels", "haadf", "ceta"])
async def test_a_mock_detector_returns_references_and_valid_documents(
    devices: dict[str, Any], name: str
):
    device = devices[name]
    device._server.array = np.zeros((2, 3), "<u2")
    reference, docs = await shoot(device)
    assert Reference.parse(reference) == Reference(run=RUN, detector=name, number=0)
    for kind, doc in docs:
        schema_validators[DocumentNames[kind]].validate(doc)
    assert (await device.describe())[name]["shape"] == [2, 3]


async def test_only_the_spectrometer_has_the_zero_loss_and_the_dark_field_has_no_summary(
    devices: dict[str, Any],
):
    parts = ["total", "mean", "max", "saturation_fraction"]
    assert list(await devices["eels"].describe()) == [
        "eels", *(f"eels-{part}" for part in parts), "eels-zero_loss",
    ]  # fmt: skip
    assert list(await devices["ceta"].describe()) == ["ceta", *(f"ceta-{p}" for p in parts)]
    assert list(await devices["adf"].describe()) == ["adf"]
    assert await devices["adf"].read_configuration() == {}
    assert devices["adf"].hints == {"fields": []}


async def test_mock_stage_axes_move_anywhere_at_once(devices: dict[str, Any]):
    for axis in ("x", "y", "z", "alpha", "beta"):
        await getattr(devices["stage"], axis).set(0.25)
    reading = await devices["stage"].read()
    assert {key: value["value"] for key, value in reading.items()} == {
        f"stage-{axis}": 0.25 for axis in ("x", "y", "z", "alpha", "beta")
    }


async def test_mock_stage_axes_refuse_what_is_beyond_their_limits(devices: dict[str, Any]):
    axis = devices["stage"].alpha
    set_mock_value(axis.low_limit, -0.5)
    set_mock_value(axis.high_limit, 0.5)
    with pytest.raises(ValueError, match="stage-alpha cannot go to 0.6: .* allows -0.5 to 0.5"):
        await axis.set(0.6)
    await axis.set(0.5)
    assert await axis.readback.get_value() == 0.5


async def test_the_options_of_an_exposure_are_the_settings(devices: dict[str, Any]):
    await devices["eels"].frames.set(3)
    assert await devices["eels"]._options() == {"exposure": 0.1, "frames": 3}
    assert (await devices["eels"]._exposure(livetime=0))[1] == pytest.approx(0.3)
    assert (await devices["eels"]._exposure(livetime=0.5))[1] == pytest.approx(1.5)
    assert (await devices["haadf"]._options())["region"] == [0.0, 0.0, 1.0, 1.0]
    assert (await devices["haadf"]._exposure(livetime=0))[1] == pytest.approx(512**2 * 1e-6)
    assert await devices["ceta"]._options() == {"camera": "BM-Ceta", "size": 1024, "exposure": 0.1}


async def test_a_trigger_waits_for_room_in_the_spool_and_reports_the_fill_level(
    driver: FakeDriver, paths: RunPathProvider, caplog: pytest.LogCaptureFixture
):
    async with connected(driver, paths, "cam", spool_limit=20) as (camera,):
        first, _ = await shoot(camera)
        received: asyncio.Queue[str] = asyncio.Queue()
        status = camera.trigger()
        status.watch(lambda **update: received.put_nowait(update["name"]))
        words = await asyncio.wait_for(received.get(), PATIENCE)
        assert words.startswith("cam waits: the spool ") and "16 bytes of 20 bytes" in words
        with calling(camera.uri) as client:
            client.call("release", [first])
        await asyncio.wait_for(status.task, PATIENCE)
        assert (await camera.read())["cam"]["value"] == f"{RUN}.cam/1"
    assert "cam waits: the spool" in caplog.text
    assert driver.calls.count("expose") == 2


async def test_a_trigger_that_waited_without_success_says_for_what(
    driver: FakeDriver, paths: RunPathProvider
):
    async with connected(driver, paths, "cam", spool_limit=20) as (camera,):
        await shoot(camera)
        camera.patience = 0.0
        with pytest.raises(SpoolFull, match="waited 0 s for room .*20 bytes in 1 frames.*status"):
            await camera.trigger()


async def test_a_frame_that_could_not_be_written_is_not_exposed_again(
    camera: Camera, driver: FakeDriver, tmp_path: Path
):
    spool, unplugged = tmp_path / "spool", tmp_path / "unplugged"
    driver.meanwhile = lambda: spool.rename(unplugged)
    status = camera.trigger()
    status.watch(lambda **update: unplugged.rename(spool) if unplugged.exists() else None)
    await asyncio.wait_for(status.task, PATIENCE)
    assert driver.calls.count("expose") == 1
    with calling(camera.uri) as client:
        assert client.call("references") == [f"{RUN}.cam/0"]


async def test_nothing_is_exposed_while_storage_holds_the_detectors(
    camera: Camera, driver: FakeDriver, paths: RunPathProvider
):
    paths.held = "the storage disk is full"
    received: asyncio.Queue[str] = asyncio.Queue()
    status = camera.trigger()
    status.watch(lambda **update: received.put_nowait(update["name"]))
    assert await received.get() == "cam waits: the storage disk is full"
    assert "expose" not in driver.calls
    paths.held = ""
    await asyncio.wait_for(status.task, PATIENCE)


async def test_unstaging_ends_a_wait_for_room(camera: Camera, paths: RunPathProvider):
    paths.held = "the storage disk is full"
    status = camera.trigger()
    await camera.unstage()
    await asyncio.wait_for(status.task, PATIENCE)


async def test_a_preflight_asks_the_spool_and_the_storage_disk(
    driver: FakeDriver, paths: RunPathProvider
):
    paths._layout.journal.mkdir()
    async with connected(driver, paths, "cam", spool_limit=20) as (camera,):
        await camera.preflight(1000)
        with pytest.raises(NotEnoughSpace, match="would take 16.0 EB"):
            await camera.preflight(10**18)
        driver.array = np.zeros(6, "<f4")
        with pytest.raises(ValueError, match="24 bytes does not fit .* --spool-limit"):
            await camera.preflight(1)
    assert "expose" not in driver.calls
