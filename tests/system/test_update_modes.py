"""Update modes, from a plan to Tiled: sums, live views and cubes, with the same guarantees."""

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import bluesky.preprocessors as bpp
import h5py
import numpy as np
import pytest
from bluesky.utils import FailedStatus, MsgGenerator
from ophyd_async.core import DetectorTrigger, TriggerInfo

from bluesky_em import Data, MapInfo
from bluesky_em.acquisition.client import SpoolClient
from bluesky_em.app.session import Session
from bluesky_em.detector._fly_scan import FlyScan
from bluesky_em.detector._trigger_info import UpdateInfo
from bluesky_em.files.hdf5 import FramesReader
from bluesky_em.files.hdf5.updates import UpdateReader
from bluesky_em.plan_stubs import beam_on, fly, per_shot
from bluesky_em.storage import supervisor
from bluesky_em.storage.upkeep.audit import audit_run

BURST = 24
KILLS = 2  # of the writer, in the fly scan of each mode
MODES = {
    "accumulate": UpdateInfo(number_of_events=BURST, livetime=0.05, mode="accumulate"),
    "replace": UpdateInfo(number_of_events=BURST, livetime=0.05, mode="replace"),
    "replace-versions": UpdateInfo(
        number_of_events=BURST, livetime=0.05, mode="replace", keep_versions=4
    ),
    "add_slice": MapInfo(shape=(BURST, 16), livetime=4e-3, mode="add_slice"),
}
Pixels = dict[str, np.ndarray]


def take(session: Session, *infos: TriggerInfo, detectors: tuple[str, ...] = ("eels",)) -> str:
    """Fly once for each info, in one run with the beam on; return its uid."""
    devices = [session.devices[name] for name in detectors]

    @bpp.stage_decorator(devices)
    @bpp.run_decorator()
    def plan() -> MsgGenerator[None]:
        for info in infos:
            yield from fly(devices, info, period=0.03)

    result = session.RE(beam_on(plan(), session.devices["microscope"]))
    return result.run_start_uids[0]


@pytest.fixture
def exposed(monkeypatch: pytest.MonkeyPatch) -> Pixels:
    """The exposed pixels by reference, fetched before the writer receives their documents."""
    pixels: Pixels = {}
    assets = FlyScan.assets

    async def watched(fly_scan: FlyScan, index: int | None) -> AsyncIterator[Any]:
        async for name, document in assets(fly_scan, index):
            if name == "stream_datum" and fly_scan._update is not None:
                indices = document["indices"]
                for n in range(indices["start"], indices["stop"]):
                    assert fly_scan._run is not None
                    reference = f"{fly_scan._run.base}/{fly_scan._first + n - fly_scan._start}"
                    with contextlib.closing(SpoolClient(fly_scan._server.uri)) as spool:
                        header = spool.header(reference)
                        data = spool.fetch(reference, 0, 1 << 20)
                    values = np.frombuffer(data, header["dtype"]).reshape(header["shape"][1:])
                    pixels[reference] = values
            yield name, document

    monkeypatch.setattr(FlyScan, "assets", watched)
    return pixels


def made_of(mode: str, frames: list[np.ndarray]) -> np.ndarray:
    """Return the array that the frames must make, in their order."""
    if mode == "accumulate":
        return np.sum(frames, axis=0, dtype="<f8")
    return frames[-1] if mode.startswith("replace") else np.stack(frames)


def of(exposed: Pixels, uid: str, detector: str = "eels") -> list[np.ndarray]:
    """Return the frames of a detector in a run, in the order of their numbers."""
    count = sum(reference.startswith(f"{uid}.{detector}/") for reference in exposed)
    return [exposed[f"{uid}.{detector}/{n}"] for n in range(count)]


def findings(session: Session, uid: str) -> list[str]:
    storage = session.storage
    found = audit_run(storage.layout, storage._ledger, uid, session.data.catalog)
    return [str(finding) for finding in found]


def in_file(session: Session, uid: str, detector: str = "eels") -> UpdateReader:
    (path,) = session.storage.layout.data.rglob(f"{uid}/{detector}.h5")
    return UpdateReader(path)


@pytest.mark.parametrize("mode", MODES)
def test_a_fly_scan_becomes_one_array_in_its_file_and_in_tiled(
    session: Session, http: Data, exposed: Pixels, mode: str
) -> None:
    uid = take(session, MODES[mode])
    session.data.wait(uid)
    made = made_of(mode, of(exposed, uid))
    array = http.catalog[uid]["primary/eels"]
    assert (array.shape, array.dtype) == (made.shape, made.dtype)
    np.testing.assert_array_equal(array.read(), made)
    with in_file(session, uid) as reader:
        np.testing.assert_array_equal(reader.read(), made)
        assert reader.numbers() == [*range(BURST)]
    assert findings(session, uid) == []
    manifest = http.catalog[uid].metadata["bluesky_em"]
    assert manifest["references"] == {"catalogued": BURST}
    (file,) = manifest["files"]
    assert (tuple(file["shape"]), file["dtype"]) == (made.shape, made.dtype.str)
    assert file["count"] == BURST


def test_mode_add_declares_nothing_and_its_points_have_references(
    session: Session, http: Data
) -> None:
    resources: list[Any] = []
    token = session.RE.subscribe(lambda name, doc: resources.append(doc), "stream_resource")
    uid = take(session, MapInfo(shape=(4, 8), livetime=1e-3, mode="add"))
    session.RE.unsubscribe(token)
    assert [resource["parameters"].get("update") for resource in resources] == [None]
    session.data.wait(uid)
    (path,) = session.storage.layout.data.rglob(f"{uid}/eels.h5")
    with FramesReader(path) as reader:
        assert reader.numbers() == [*range(32)]
        pixels = http.catalog[uid]["primary/eels"].read()
        assert pixels.shape == (4, 8, 2048)
        np.testing.assert_array_equal(pixels.reshape(32, 2048), reader.rows(0, 32))
    assert findings(session, uid) == []


@pytest.mark.parametrize("mode", MODES)
def test_a_writer_that_is_killed_in_a_fly_scan_leaves_no_trace(
    session: Session, exposed: Pixels, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the writer is killed more often here than anywhere else
    monkeypatch.setattr(supervisor, "BACKOFF", (0.05, 0.05))
    rng, killed = random.Random(mode), set[int]()

    def kill() -> None:
        while len(killed) < KILLS:
            time.sleep(rng.uniform(0.1, 0.5))
            pid = session.storage.supervisor.pid("writer")
            if pid is not None and pid not in killed:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)

    killer = threading.Thread(target=kill)
    killer.start()
    uid = take(session, MODES[mode])
    killer.join()
    session.data.wait(uid, timeout=300)
    made = made_of(mode, of(exposed, uid))
    assert len(of(exposed, uid)) == BURST
    np.testing.assert_array_equal(session.data.catalog[uid]["primary/eels"].read(), made)
    assert findings(session, uid) == []
    with in_file(session, uid) as reader:
        assert reader.count() == BURST


def test_a_cube_has_the_dark_field_beside_it_line_by_line(session: Session, http: Data) -> None:
    uid = take(session, MapInfo(shape=(4, 8), livetime=1e-3, mode="add_slice"),
               detectors=("eels", "adf"))  # fmt: skip
    session.data.wait(uid)
    stream = http.catalog[uid]["primary"].base
    assert stream["eels"].shape == (4, 8, 2048) and stream["adf"].shape == (4, 8)
    assert stream["eels"].dims == ("y", "x", "energy") and stream["adf"].dims == ("y", "x")
    line = session.data.open(f"{uid}.eels/2")
    assert [axis.name for axis in line.axes] == ["x", "energy"]
    np.testing.assert_array_equal(line.read(), stream["eels"][2])
    np.testing.assert_array_equal(http.open(f"{uid}.adf/3").read(), stream["adf"][3])
    assert findings(session, uid) == []
    assert http.catalog[uid]["primary"].read() is not None  # as a dataset


def test_lines_can_be_read_while_the_cube_grows(
    session: Session, http: Data, exposed: Pixels
) -> None:
    lines = 80
    # the first run takes Tiled seconds
    session.data.wait(take(session, TriggerInfo(number_of_events=2)))
    exposed.clear()

    def watch(uid: str) -> list[int]:
        heights: list[int] = []
        while not heights or heights[-1] < lines:
            known = [*exposed.items()]
            if known:
                reference, newest = known[-1]
                http.wait(reference)
                np.testing.assert_array_equal(http.open(reference).read(), newest)
                array = http.catalog[uid]["primary/eels"]
                assert array.shape[0] >= len(known) and array.shape[1:] == (16, 2048)
                heights.append(array.shape[0])
                frames = [*exposed.values()][: heights[-1]]
                # a slice: Tiled refuses to read the whole array if it has grown meanwhile
                np.testing.assert_array_equal(array[: heights[-1]], np.stack(frames))
        return heights

    with ThreadPoolExecutor(1) as pool:
        watching: list[Future[list[int]]] = []
        token = session.RE.subscribe(
            lambda name, start: watching.append(pool.submit(watch, start["uid"])), "start"
        )
        take(session, MapInfo(shape=(lines, 16), livetime=16e-3, mode="add_slice"))
        session.RE.unsubscribe(token)
        heights = watching[0].result(60)
    assert heights == sorted(heights) and len(set(heights)) > 3


def test_a_second_map_of_a_run_overwrites_the_first(
    session: Session, http: Data, exposed: Pixels
) -> None:
    info = MapInfo(shape=(3, 8), livetime=1e-3, mode="add_slice")
    uid = take(session, info, info)
    session.data.wait(uid)
    frames = of(exposed, uid)
    np.testing.assert_array_equal(http.catalog[uid]["primary/eels"].read(), np.stack(frames[3:]))
    for data in (session.data, http):
        np.testing.assert_array_equal(data.open(f"{uid}.eels/4").read(), frames[4])
        assert data.status(f"{uid}.eels/1").stage == "catalogued"
        with pytest.raises(LookupError, match="has been overwritten by a newer frame"):
            data.open(f"{uid}.eels/1")
    assert findings(session, uid) == []


def test_the_newest_frames_of_a_live_view_can_be_opened_and_the_others_raise_why_not(
    session: Session, http: Data, exposed: Pixels
) -> None:
    uid = take(session, MODES["replace-versions"])
    session.data.wait(uid)
    frames = of(exposed, uid)
    for n in range(BURST - 4, BURST):
        np.testing.assert_array_equal(session.data.open(f"{uid}.eels/{n}").read(), frames[n])
    np.testing.assert_array_equal(http.open(f"{uid}.eels/{BURST - 1}").read(), frames[-1])
    with pytest.raises(LookupError, match=rf"{uid}\.eels/3 has been replaced by newer frames"):
        session.data.open(f"{uid}.eels/3")
    with pytest.raises(LookupError, match="has been replaced .*primary/eels"):
        http.open(f"{uid}.eels/3")


def test_a_frame_that_was_added_up_is_catalogued_and_has_no_values_of_its_own(
    session: Session, http: Data
) -> None:
    uid = take(session, MODES["accumulate"])
    session.data.wait(f"{uid}.eels/{BURST - 1}")
    for data in (session.data, http):
        assert data.wait(f"{uid}.eels/5").stage == "catalogued"
        with pytest.raises(LookupError, match="was added up with others, and only their sum"):
            data.open(f"{uid}.eels/5")


@pytest.mark.parametrize("infos, said", [
    ([UpdateInfo(number_of_events=4, mode="accumulate", keep_versions=2)], "it is for `replace`"),
    ([UpdateInfo(number_of_events=0, mode="replace")], "cannot fly without an end"),
    ([UpdateInfo(number_of_events=2, mode="replace", deadtime=1.0)], "flies without pauses"),
    ([UpdateInfo(number_of_events=2, mode="replace", trigger=DetectorTrigger.EXTERNAL_EDGE)],
     "from outside"),
    ([MapInfo(shape=(2, 2), sync="software", mode="add_slice")], "gives single points in a map"),
    ([TriggerInfo(number_of_events=2), UpdateInfo(number_of_events=2, mode="replace")],
     "has taken frames in this run with mode add, and cannot take any with mode replace"),
    ([MapInfo(shape=(1, 4), mode="add_slice"), MapInfo(shape=(2, 4), mode="add_slice")],
     "all its frames of a run become one array. Give each mode a run of its own"),
])  # fmt: skip
def test_an_impossible_fly_scan_is_refused_with_what_is_possible(
    session: Session, infos: list[TriggerInfo], said: str
) -> None:
    with pytest.raises(FailedStatus) as caught:
        take(session, *infos)
    assert said in str(caught.value.__cause__)


@pytest.mark.parametrize("steps", ["before", "after"])
def test_single_shots_have_a_run_of_their_own(session: Session, steps: str) -> None:
    eels = session.devices["eels"]

    @bpp.stage_decorator([eels])
    @bpp.run_decorator()
    def plan() -> MsgGenerator[None]:
        if steps == "before":
            yield from per_shot([eels])
        yield from fly([eels], UpdateInfo(number_of_events=2, mode="replace"))
        yield from per_shot([eels])

    with pytest.raises(FailedStatus) as caught:
        session.RE(plan())
    assert "Give each mode a run of its own" in str(caught.value.__cause__)


@pytest.mark.parametrize("mode", ["add", "add_slice", "append"])
def test_a_burst_has_only_modes_that_need_no_place(mode: Any) -> None:
    with pytest.raises(ValueError, match="Input should be 'accumulate' or 'replace'"):
        UpdateInfo(number_of_events=2, mode=mode)


@pytest.mark.parametrize("mode", MODES)
def test_the_array_has_its_axes_in_datasets_and_in_the_master_file(
    session: Session, http: Data, mode: str
) -> None:
    uid = take(session, MODES[mode])
    session.data.wait(uid)
    here, there = session.data.stream(uid).eels, http.stream(uid).eels
    assert here.dims == there.dims == (("y", "x", "energy") if mode == "add_slice" else ("energy",))
    np.testing.assert_array_equal(here, there)
    np.testing.assert_array_equal(here.energy, there.energy)
    (path,) = session.storage.layout.data.rglob(f"{uid}.nxs")
    with h5py.File(path) as file:
        data: Any = file["entry/eels"]
        assert list(data.attrs["axes"]) == list(here.dims)
        np.testing.assert_array_equal(data["data"], here)
        np.testing.assert_array_equal(data["energy"], here.energy)
