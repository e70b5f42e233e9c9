"""A follower receives the complete run, whenever it begins and whatever happens."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bluesky.preprocessors as bpp
import httpx
import numpy as np
import pyarrow
import pytest
from bluesky.utils import MsgGenerator
from bluesky_tiled_plugins import TiledWriter
from event_model import compose_run
from ophyd_async.core import TriggerInfo
from tiled.client import from_context, from_uri

from bluesky_em import Data, MapInfo, ReferenceFailed, UnknownReference
from bluesky_em.app.session import Session
from bluesky_em.data.follow import _tiled_run
from bluesky_em.detector._trigger_info import UpdateInfo
from bluesky_em.files.tiled.address import TiledAddress
from bluesky_em.plan_stubs import beam_on, fly
from bluesky_em.reference import run_of
from bluesky_em.storage.upkeep.audit import audit_run
from tests.support.followed_run import REASON, documented, spectra
from tests.support.follower_process import Follower, Line, content_of
from tests.support.interruption import writer_stopped
from tests.support.operator_command import operator_command

POINTS = 40


@dataclass
class Followed:
    """A run, and the points that followers received, by the time or place of their start."""

    uid: str
    expected: list[Line]
    received: dict[str, tuple[list[Line], Line]]
    killed: list[Line]
    """the points that the killed follower received"""


@pytest.fixture(scope="module")
def followed(
    session: Session, tiled: TiledAddress, tmp_path_factory: pytest.TempPathFactory
) -> Followed:
    """One run with several followers, each in a separate process."""
    http = {"tiled": tiled.uri, "api_key": tiled.api_key}
    folder = {"storage": str(session.storage.layout.root)}
    places = {
        "before": http, "middle": http, "killed": http, "restarted": http, "folder": folder,
    }  # fmt: skip
    mark = str(tmp_path_factory.mktemp("marks") / "bookmark.json")
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor())
        followers = {name: stack.enter_context(Follower(**place)) for name, place in places.items()}
        for follower in followers.values():
            follower.ready()
        killed = followers.pop("killed")

        def kill_and_restart(uid: str) -> list[Line]:
            killed.follow(uid, bookmark=mark)
            killed.until(5)
            received = killed.kill()
            followers["restarted"].follow(uid, bookmark=mark)
            return received

        work: list[Future[Any]] = []

        def watch(name: str, document: dict[str, Any]) -> None:
            if name == "start":
                work.append(pool.submit(kill_and_restart, document["uid"]))
            if name == "event" and document["seq_num"] == POINTS // 2:
                uid = run_of(session.storage.references[-1])
                work.append(pool.submit(followers["middle"].follow, uid))

        followers["before"].follow()
        followers["folder"].follow()
        (uid,) = session.RE(spectra(session, POINTS), watch).run_start_uids
        session.data.wait(uid)
        received_before_kill, _ = [future.result(60) for future in work]
        received = {name: follower.end() for name, follower in followers.items()}
        for when, name in (("after", "restarted"), ("folder, after", "folder")):
            followers[name].follow(uid)
            received[when] = followers[name].end()
        return Followed(uid, documented(session, uid), received, received_before_kill)


@pytest.mark.parametrize("when", ["before", "middle", "after", "folder", "folder, after"])
def test_a_follower_in_another_process_receives_the_same_complete_sequence_whenever_it_begins(
    followed: Followed, when: str
) -> None:
    points, end = followed.received[when]
    assert points == followed.expected and len(points) == POINTS
    assert end == {"run": followed.uid, "status": "success", "reason": REASON}


def test_a_killed_follower_continues_at_its_bookmark(followed: Followed) -> None:
    points, end = followed.received["restarted"]
    assert 5 < len(followed.killed) < POINTS
    first = points[0]["index"]
    assert first in (len(followed.killed) - 1, len(followed.killed))
    assert [*followed.killed[:first], *points] == followed.expected
    assert followed.killed == followed.expected[: len(followed.killed)]
    assert end["reason"] == REASON


@dataclass
class Watched:
    """The points that a follower in this process received."""

    points: list[Any]
    end: Any


class Watchers:
    """Follow runs in threads, over HTTP and from the folder, from their start document on."""

    def __init__(self, session: Session, http: Data):
        self.places = {"http": http, "folder": session.data}
        self.session = session
        self._pool = ThreadPoolExecutor()

    def during(
        self, plan: MsgGenerator, *subscriptions: Any, **options: Any
    ) -> tuple[str, dict[str, Watched]]:
        """Run a plan; return its run's uid, and the points that each watcher received meanwhile."""
        watching: dict[str, Future[Watched]] = {}

        def begin(_: str, start: dict[str, Any]) -> None:
            for name, data in self.places.items():
                watching[name] = self.watch(data, start["uid"], **options)

        result = self.session.RE(plan, {"start": [begin], "all": list(subscriptions)})
        return result.run_start_uids[0], {name: w.result(60) for name, w in watching.items()}

    def watch(self, data: Data, uid: str, **options: Any) -> Future[Watched]:
        def watch() -> Watched:
            with data.follow(uid, patience=60, **options) as points:
                received = [*points]
                return Watched(received, points.end)

        return self._pool.submit(watch)

    def close(self) -> None:
        self._pool.shutdown()


@pytest.fixture
def watchers(session: Session, http: Data) -> Iterator[Watchers]:
    assert http.catalog is not None
    with closing(Watchers(session, http)) as watchers:
        yield watchers


def test_two_streams_of_a_run_are_followed_together(session: Session, watchers: Watchers) -> None:
    plan = spectra(session, 8, "a", "b", exposure=0.01)
    uid, watched = watchers.during(plan, streams=("a", "b"))
    expected = documented(session, uid)
    for seen in watched.values():
        for position, stream in enumerate("ab"):
            received = [content_of(points[position]) for points in seen.points]
            assert received == [line for line in expected if line["stream"] == stream]
        assert (len(seen.points), seen.end.reason) == (8, REASON)


def test_a_slow_follower_of_the_latest_points_only_learns_how_many_were_left_out(
    session: Session, http: Data
) -> None:
    num, ticks = 30, {name: threading.Semaphore(0) for name in ("http", "folder")}

    def tick(name: str, document: dict[str, Any]) -> None:
        if name == "stop" or (name == "event" and document["seq_num"] % 7 == 0):
            for tick in ticks.values():
                tick.release(num if name == "stop" else 1)

    def watch(data: Data, uid: str, tick: threading.Semaphore) -> list[Any]:
        received = []
        with data.follow(uid, latest_only=True, patience=60) as points:
            for point in points:
                received.append(point)
                if point.index < num - 1:
                    assert tick.acquire(timeout=60)
        return received

    with ThreadPoolExecutor() as pool:
        watching: list[Future[list[Any]]] = []

        def begin(_: str, start: dict[str, Any]) -> None:
            for name, data in (("http", http), ("folder", session.data)):
                watching.append(pool.submit(watch, data, start["uid"], ticks[name]))

        session.RE(spectra(session, num, exposure=0.02), {"start": [begin], "all": [tick]})
        for received in [future.result(60) for future in watching]:
            assert sum(1 + point.skipped for point in received) == num
            assert received[-1].index == num - 1 and 2 <= len(received) < 10
            assert {point.reason for point in received if point.skipped} == {"latest_only"}


@pytest.fixture
def foreign(tiled: TiledAddress) -> Iterator[Any]:
    """The catalog, opened with the key for writing, as other writers of documents use it."""
    client: Any = from_uri(tiled.uri, api_key=tiled.writer_key)
    with closing(client.context):
        yield client


def foreign_run(events: int, *, array: int = 0) -> list[tuple[str, Any]]:
    run = compose_run()
    keys: Any = {"x": {"source": "elsewhere", "dtype": "number", "shape": []}}
    if array:
        keys["array"] = {
            "source": "elsewhere", "dtype": "array", "shape": [array], "dtype_numpy": "<f8",
        }  # fmt: skip
    stream = run.compose_descriptor(name="primary", data_keys=keys)
    documents: list[tuple[str, Any]] = [("start", run.start_doc)]
    documents.append(("descriptor", stream.descriptor_doc))
    for n in range(events):
        data = {"x": float(n), **({"array": np.arange(array) * float(n)} if array else {})}
        event = stream.compose_event(data=data, timestamps=dict.fromkeys(data, 0.0))
        documents.append(("event", event))
    return [*documents, ("stop", run.compose_stop(reason=REASON))]


@pytest.mark.parametrize("when", ["during", "after"])
def test_a_missing_event_is_reported_as_a_gap(
    foreign: Any, http: Data, watchers: Watchers, when: str
) -> None:
    documents = foreign_run(events=6)
    uid = documents[0][1]["uid"]
    watching = watchers.watch(http, uid) if when == "during" else None
    writer = TiledWriter(foreign, batch_size=1)
    for name, document in documents:
        if document.get("seq_num") != 3:
            writer(name, document)
    watched = (watching or watchers.watch(http, uid)).result(60)
    assert [point.seq_num for point in watched.points] == [1, 2, 4, 5, 6]
    assert [point.skipped for point in watched.points] == [0, 0, 1, 0, 0]
    assert watched.points[2].reason == "1 events before it are missing where the run is stored"
    assert watched.points[2].data["x"] == 3.0
    assert watched.end.reason == REASON


@pytest.mark.parametrize("batch_size", [1, 10_000])
def test_arrays_in_another_writers_events_are_returned_complete(
    foreign: Any, http: Data, watchers: Watchers, batch_size: int
) -> None:
    documents = foreign_run(events=6, array=64)
    watching = watchers.watch(http, documents[0][1]["uid"])
    writer = TiledWriter(foreign, batch_size=batch_size)
    for name, document in documents:
        writer(name, document)
    watched = watching.result(60)
    assert [point.data["x"] for point in watched.points] == [*map(float, range(6))]
    for n, point in enumerate(watched.points):
        np.testing.assert_array_equal(point.data["array"], np.arange(64) * float(n))


def test_nodes_in_tiled_that_are_not_runs_are_skipped(foreign: Any, http: Data) -> None:
    documents = foreign_run(events=2)
    with http.follow(patience=60) as runs:
        foreign.create_container(f"notes of {documents[0][1]['uid']}")
        writer = TiledWriter(foreign, batch_size=1)
        for name, document in documents:
            writer(name, document)
        run = next(runs)
        assert run.run == documents[0][1]["uid"]
        assert [point.data["x"] for point in run] == [0.0, 1.0]


def test_an_error_while_the_end_is_read_loses_no_point(
    session: Session, http: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    (uid,) = session.RE(spectra(session, 2, "a", "b", exposure=0.001)).run_start_uids
    session.data.wait(uid)
    read_all, errors = _tiled_run._Stream.read_all, [httpx.ReadError("cut")]

    def failing_once(stream: Any) -> None:
        if stream.name == "b" and errors:
            raise errors.pop()
        read_all(stream)

    monkeypatch.setattr(_tiled_run._Stream, "read_all", failing_once)
    points = [*http.follow(uid, streams=None, patience=60)]
    assert not errors
    assert sorted((p.stream, p.index) for p in points) == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert {point.skipped for point in points} == {0}


def test_an_error_while_the_streams_of_an_ended_run_are_listed_loses_no_point(
    session: Session, http: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    (uid,) = session.RE(spectra(session, 2, exposure=0.001)).run_start_uids
    session.data.wait(uid)
    listed, errors = _tiled_run.streams, [httpx.ReadTimeout("busy")]

    def failing_once(node: Any) -> dict[str, Any]:
        if errors:
            raise errors.pop()
        return listed(node)

    monkeypatch.setattr(_tiled_run, "streams", failing_once)
    monkeypatch.setattr(_tiled_run, "REREAD_INTERVAL", 2.0)
    monkeypatch.setattr(_tiled_run.TiledEvents, "wait", lambda *_: [])  # no message says so
    assert [point.index for point in http.follow(uid, patience=60)] == [0, 1]


def fly_scan(session: Session, info: TriggerInfo, *detectors: str) -> MsgGenerator:
    devices = [session.devices[name] for name in detectors]

    @bpp.stage_decorator(devices)
    @bpp.run_decorator()
    def plan() -> MsgGenerator[None]:
        yield from fly(devices, info, period=0.03)

    return beam_on(plan(), session.devices["microscope"])


def test_a_map_is_followed_while_it_grows(session: Session, watchers: Watchers) -> None:
    info = MapInfo(shape=(16, 16), livetime=2e-3)
    uid, watched = watchers.during(fly_scan(session, info, "eels", "adf"))
    session.data.wait(uid)
    for seen in watched.values():
        assert [dict(point.references) for point in seen.points] == [
            {"eels": f"{uid}.eels/{n}", "adf": f"{uid}.adf/{n}"} for n in range(256)
        ]
        assert [point.seq_num for point in seen.points] == [*range(1, 257)]
        for point in seen.points[::75]:
            for detector, reference in point.references.items():
                frame = session.data.open(reference)
                np.testing.assert_array_equal(point.open(detector).read(), frame.read())
                assert point.open(detector).axes == frame.axes


def test_the_lines_of_a_cube_are_followed_while_it_grows(
    session: Session, watchers: Watchers
) -> None:
    info = MapInfo(shape=(12, 16), livetime=2e-3, mode="add_slice")
    uid, watched = watchers.during(fly_scan(session, info, "eels", "adf"))
    session.data.wait(uid)
    for seen in watched.values():
        assert [point.references["adf"] for point in seen.points] == [
            f"{uid}.adf/{n}" for n in range(12)
        ]
        for point in seen.points[::5]:
            for detector, reference in point.references.items():
                frame = session.data.open(reference)
                np.testing.assert_array_equal(point.open(detector).read(), frame.read())


def test_frames_that_were_added_up_are_points_and_name_the_place_of_their_sum(
    session: Session, watchers: Watchers
) -> None:
    info = UpdateInfo(number_of_events=12, livetime=0.02, mode="accumulate")
    uid, watched = watchers.during(fly_scan(session, info, "eels"))
    session.data.wait(uid)
    for seen in watched.values():
        assert [point.references["eels"] for point in seen.points] == [
            f"{uid}.eels/{n}" for n in range(12)
        ]
        with pytest.raises(LookupError, match=rf"{uid}\.eels/4 was added up with others"):
            seen.points[4].open("eels")


def test_a_lost_frame_is_a_point_that_reports_it(
    session: Session, watchers: Watchers, tmp_path: Path
) -> None:
    assert session.pcs is not None
    spool = session.storage.layout.root / "gatan-pc" / "spool"
    with ExitStack() as stack:
        stopped = stack.enter_context(ExitStack())
        stopped.enter_context(writer_stopped(session))

        def lose(name: str, document: dict[str, Any]) -> None:
            if name == "stop":
                session.pcs.kill("gatan")
                reference = session.storage.references[-2].encode()
                frame = next(path for path in spool.iterdir() if reference in path.read_bytes())
                stack.callback(frame.rename(tmp_path / frame.name).rename, frame)
                session.pcs.start("gatan")
                stopped.close()

        uid, watched = watchers.during(spectra(session, 3, exposure=0.001), lose)
        for seen in watched.values():
            assert [bool(point.failed) for point in seen.points] == [False, True, False]
            assert "not in the spool" in seen.points[1].failed["eels"]
            with pytest.raises(
                ReferenceFailed, match=rf"{uid}\.eels/1: failed; .*not in the spool"
            ):
                seen.points[1].open("eels")
            assert seen.points[2].open("eels").read().any()
        session.data.wait(uid)
        session.pcs.kill("gatan")
    session.pcs.start("gatan")
    operator_command(session, "retry", f"{uid}.eels/1")
    session.data.wait([f"{uid}.eels/1"])
    session.data.wait(uid)
    (_, found, _) = session.data.follow(uid)
    assert not found.failed and found.open("eels").read().any()


@pytest.fixture
def analyst(tiled: TiledAddress) -> Iterator[Data]:
    """The `Data` of an analysis on another PC."""
    data = Data(tiled.uri, api_key=tiled.analyst_key)
    yield data
    data.close()


def test_results_reach_the_session_from_tiled_and_from_the_folder(
    session: Session, analyst: Data, http: Data
) -> None:
    reference = session.acquire_eels(exposure=0.001)
    uid = run_of(reference)
    session.data.wait(uid)
    results = session.data.results(uid)
    analyst.publish(uid, "thickness", np.float64(0.5))
    analyst.publish(reference, "aligned", True)
    analyst.publish(uid, "thickness", 0.75)
    with closing(Data(storage=session.storage.layout.root)) as beside:
        beside.publish(uid, "verdict", {"good": [1, 2]})
    for of, name in ((uid, "thickness"), (reference, "aligned"), (uid, "verdict")):
        assert results.wait(of, name, timeout=10)
    while results.latest["thickness"] != 0.75:
        assert results.wait(uid, "thickness", timeout=10)
    assert dict(results.latest) == {"thickness": 0.75, "verdict": {"good": [1, 2]}}
    assert results.get(reference, "aligned") is True
    found = audit_run(session.storage.layout, session.storage._ledger, uid, session.data.catalog)
    assert [str(finding) for finding in found] == []
    raw = http.catalog[uid]
    assert "results" not in raw and raw.metadata["bluesky_em"]["results"] == f"results/about-{uid}"
    stored = http.results_catalog[f"about-{uid}"].read()
    assert list(stored["name"].values) == ["thickness", "aligned", "thickness"]
    assert [json.loads(value) for value in stored["value"].values] == [0.5, True, 0.75]
    assert len([*http.follow(uid)]) == 1


def test_results_that_an_earlier_version_put_into_the_run_can_be_read(
    session: Session, tiled: TiledAddress, analyst: Data, http: Data
) -> None:
    uid = run_of(session.acquire_eels(exposure=0.001))
    session.data.wait(uid)
    analyst.publish(uid, "new", 2)
    published = analyst.results_catalog[f"about-{uid}"]
    rows = published.base["internal"].read()
    with closing(from_uri(tiled.uri, api_key=tiled.writer_key).context) as context:
        raw = from_context(context)[uid].base
        stream = raw.create_container(
            "results", metadata=dict(published.metadata), specs=published.specs
        )
        before = pyarrow.Table.from_pandas(rows.assign(name="old", value="1"), preserve_index=False)
        table = stream.base.create_appendable_table(before.schema, key="internal")
        table.append_partition(0, before)
    results = http.results(uid)
    assert results.wait(uid, "old", timeout=10) and results.wait(uid, "new", timeout=10)
    assert results.latest == {"old": 1, "new": 2}


def test_publishing_with_a_key_for_reading_raises_an_error_that_names_the_right_key(
    session: Session, http: Data, analyst: Data
) -> None:
    uid = run_of(session.acquire_eels(exposure=0.001))
    session.data.wait(uid)
    with pytest.raises(PermissionError, match="may only read .* the `analyst_key` in <storage>"):
        http.publish(uid, "verdict", "good")
    with pytest.raises(UnknownReference, match="there is no run 'unknown' here"):
        analyst.publish("unknown", "verdict", "good")
    with pytest.raises(TypeError, match="cannot be published: give a number, a string"):
        analyst.publish(uid, "verdict", object())
