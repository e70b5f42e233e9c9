"""Fly scans: many frames at the speed of the instrument; none is lost, whatever the plan does."""

import itertools
import random
import threading
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import numpy as np
import pytest
from bluesky.utils import FailedStatus, Msg, MsgGenerator, RunEngineInterrupted
from ophyd_async.core import DetectorTrigger, TriggerInfo

from bluesky_em import Data, MapInfo
from bluesky_em.app.session import Session
from bluesky_em.errors import ServerUnreachable
from bluesky_em.files.hdf5 import FramesReader
from bluesky_em.plan_stubs import beam_on, fly, per_shot, wait_for
from bluesky_em.reference import run_of


def take(session: Session, stub: MsgGenerator[list[str]], detectors: list) -> tuple[str, list[str]]:
    """Run a plan stub in a run of its own, with the beam on; return its uid and references."""
    references: list[str] = []

    @bpp.stage_decorator(detectors)
    @bpp.run_decorator()
    def plan() -> MsgGenerator[None]:
        references.extend((yield from stub))

    result = session.RE(beam_on(plan(), session.devices["microscope"]))
    return result.run_start_uids[0], references


def test_a_map_is_taken_in_one_fly_scan_together_with_the_dark_field(
    session: Session, http: Data
) -> None:
    eels, adf = session.devices["eels"], session.devices["adf"]

    stub = fly([eels, adf], MapInfo(shape=(8, 16), livetime=1e-3))
    uid, references = take(session, stub, [eels, adf])
    assert references == [f"{uid}.eels/127", f"{uid}.adf/127"]
    session.data.wait(references)
    session.data.wait(uid)
    stream = http.catalog[uid]["primary"].base
    assert stream["eels"].shape == (8, 16, 2048) and stream["adf"].shape == (8, 16)
    assert stream["eels"].dtype == stream["adf"].dtype == np.dtype("<f4")
    for n in (0, 17, 127):
        frame = session.data.open(f"{uid}.eels/{n}")
        np.testing.assert_array_equal(frame.read(), stream["eels"][divmod(n, 16)])
        np.testing.assert_array_equal(http.open(f"{uid}.eels/{n}").read(), frame.read())


def test_a_burst_takes_spectra_at_one_place(session: Session) -> None:
    eels = session.devices["eels"]
    stub = fly([eels], TriggerInfo(number_of_events=5, livetime=0.02))
    uid, (last,) = take(session, stub, [eels])
    session.data.wait(uid)
    assert last == f"{uid}.eels/4"
    assert session.data.catalog[uid]["primary/eels"].shape == (5, 2048)
    assert session.data.open(last).metadata["frame"]["exposure"] == 0.02


def test_a_map_can_be_taken_by_moving_the_probe(session: Session) -> None:
    eels = session.devices["eels"]
    info = MapInfo(shape=(2, 3), livetime=1e-3, sync="software", region=(0.2, 0.2, 0.6, 0.6))
    uid, (last,) = take(session, fly([eels], info), [eels])
    session.data.wait(uid)
    counts = session.data.catalog[uid]["primary/eels"].read().sum(axis=2)
    assert counts.shape == (2, 3) and len(set(counts.flat)) == 6
    frame = session.storage._ledger.find(last).frame
    assert [(axis.name, axis.size) for axis in frame.scan] == [("y", 2), ("x", 3)]


def test_steps_and_fly_scans_of_one_detector_share_a_run(session: Session, http: Data) -> None:
    eels = session.devices["eels"]

    def both() -> MsgGenerator[list[str]]:
        first = yield from per_shot([eels])
        first_map = yield from fly([eels], MapInfo(shape=(2, 8), livetime=1e-3), "map")
        second_map = yield from fly([eels], MapInfo(shape=(1, 8), livetime=1e-3), "map")
        return [*first, *first_map, *second_map, *(yield from per_shot([eels]))]

    uid, references = take(session, both(), [eels])
    session.data.wait(uid)
    assert references == [f"{uid}.eels/{n}" for n in (0, 16, 24, 25)]
    assert http.catalog[uid]["primary/eels"].shape == (2, 2048)
    array = http.catalog[uid]["map/eels"]
    assert array.shape == (3, 8, 2048)
    for number, row in ((1, 0), (16, 15), (17, 16), (24, 23)):
        frame = session.data.open(f"{uid}.eels/{number}").read()
        np.testing.assert_array_equal(array[divmod(row, 8)], frame)
        np.testing.assert_array_equal(http.open(f"{uid}.eels/{number}").read(), frame)


def test_a_fly_plan_written_for_a_standard_detector_runs_unchanged(session: Session) -> None:
    eels = session.devices["eels"]

    @bpp.stage_decorator([eels])
    @bpp.run_decorator()
    def plan() -> MsgGenerator[None]:
        yield from bps.prepare(eels, TriggerInfo(number_of_events=10, livetime=0.01), wait=True)
        yield from bps.declare_stream(eels, name="primary", collect=True)
        yield from bps.kickoff(eels, wait=True)
        yield from bps.collect_while_completing([eels], [eels], flush_period=0.05)

    (uid,) = session.RE(plan()).run_start_uids
    session.data.wait(uid)
    assert session.data.catalog[uid]["primary/eels"].shape == (10, 2048)


@pytest.mark.parametrize("wrong, message", [
    (TriggerInfo(number_of_events=0), "cannot fly without an end"),
    (TriggerInfo(number_of_events=4, deadtime=0.1), "flies without pauses"),
    (TriggerInfo(number_of_events=4, collections_per_event=2), "gives one frame per event"),
    (TriggerInfo(number_of_events=4, trigger=DetectorTrigger.EXTERNAL_EDGE), "from outside"),
    (MapInfo(shape=(4, 4), region=(0.5, 0.5, 0.6, 0.5)), "must stay inside the scan"),
    (MapInfo(shape=(4, 4), livetime=50.0), "must lie between 1e-06 and 5 s"),
])  # fmt: skip
def test_a_wrong_fly_scan_is_refused_with_the_reason(
    session: Session, wrong: TriggerInfo, message: str
) -> None:
    eels = session.devices["eels"]
    with pytest.raises(FailedStatus) as caught:
        take(session, fly([eels], wrong), [eels])
    assert message in str(caught.value.__cause__)


def test_a_map_with_another_number_of_events_than_lines_is_refused() -> None:
    with pytest.raises(ValueError, match="a map of \\(4, 8\\) has 4 events, its lines"):
        MapInfo(shape=(4, 8), number_of_events=32)


def test_a_map_with_longer_lines_than_the_one_before_needs_a_run_of_its_own(
    session: Session,
) -> None:
    eels = session.devices["eels"]

    def both() -> MsgGenerator[list[str]]:
        yield from fly([eels], MapInfo(shape=(2, 8), livetime=1e-3))
        return (yield from fly([eels], MapInfo(shape=(2, 9), livetime=1e-3), "second"))

    with pytest.raises(FailedStatus) as caught:
        take(session, both(), [eels])
    assert "with lines of 8 points in this run, and cannot take one with lines of 9 points" in str(
        caught.value.__cause__
    )


@pytest.mark.parametrize("moment", range(20))
def test_each_captured_frame_is_stored_however_the_plan_ends(session: Session, moment: int) -> None:
    """At twenty random moments: paused and resumed, stopped, or aborted."""
    eels, adf, microscope = (session.devices[n] for n in ("eels", "adf", "microscope"))
    rng = random.Random(moment)
    ending = ("resume", "stop", "abort", "resume")[moment % 4]
    documents: list[tuple[str, Any]] = []
    token = session.RE.subscribe(lambda name, doc: documents.append((name, doc)))

    @bpp.stage_decorator([eels, adf])
    @bpp.run_decorator()
    def plan() -> MsgGenerator[None]:
        yield from fly([eels, adf], MapInfo(shape=(16, 32), livetime=1e-3), period=0.03)

    pause = threading.Timer(rng.uniform(0.1, 1.3), session.RE.request_pause)
    pause.start()
    try:
        session.RE(beam_on(plan(), microscope))
    except RunEngineInterrupted:
        getattr(session.RE, ending)()
    finally:
        pause.cancel()
        session.RE.unsubscribe(token)
    uid = documents[0][1]["uid"]
    session.data.wait(uid)
    assert (
        session.data.catalog[uid].metadata["stop"]["exit_status"] == documents[-1][1]["exit_status"]
    )
    manifest = session.data.catalog[uid].metadata["bluesky_em"]
    for detector in ("eels", "adf"):
        captured = check_fly_scan(session, uid, detector, documents)
        recorded = [f["maps"] for f in manifest["files"] if f["detector"] == detector]
        expected = [[{"shape": [16, 32], "taken": captured, "row": 0}]]
        assert recorded == (expected if captured else [])
        assert (captured == 16 * 32) or ending != "resume"


def check_fly_scan(session: Session, uid: str, detector: str, documents: list) -> int:
    """Check that documents, file and Tiled have the same frames, once; return their number."""
    resources = [
        d for name, d in documents if name == "stream_resource" and d["data_key"] == detector
    ]
    if not resources:
        return 0  # interrupted before the first line
    resource, *closing = resources
    data = [d for _, d in documents if d.get("stream_resource") == resource["uid"]]
    ends = [(d["indices"], d["seq_nums"]) for d in data]
    assert all(a[0]["stop"] == b[0]["start"] for a, b in itertools.pairwise(ends))
    assert all(s["start"] == i["start"] + 1 and s["stop"] == i["stop"] + 1 for i, s in ends)
    captured = ends[-1][0]["stop"] * 32  # the scan is wired: it ends behind a line
    assert [other["parameters"]["frames"] for other in closing] in ([], [captured])
    stream = session.data.catalog[uid]["primary"].base
    pixels = stream[detector].read()
    taken = stream["taken" if detector == "eels" else "adf_taken"].read()
    assert pixels.shape[:2] == taken.shape == (16, 32)
    assert taken.sum() == captured and taken.reshape(-1)[:captured].all()
    if detector == "eels":  # the beam was on, although it was blanked during the pause
        assert (pixels.sum(axis=2)[taken == 1] > 1e5).all()
    (path,) = session.storage.layout.data.rglob(f"{uid}/{detector}.h5")
    with FramesReader(path) as reader:
        assert reader.numbers() == [*range(captured), *[-1] * (16 * 32 - captured)]
        last = divmod(captured - 1, 32)
        np.testing.assert_array_equal(pixels[last], reader.read(captured - 1))
    return captured


def test_a_dead_acquisition_server_ends_the_plan_and_keeps_what_was_collected(
    session: Session,
) -> None:
    eels = session.devices["eels"]

    @bpp.stage_decorator([eels])
    @bpp.run_decorator()
    def plan() -> MsgGenerator[None]:
        yield from fly([eels], MapInfo(shape=(32, 32), livetime=2e-3))

    kill = threading.Timer(1.0, lambda: session.pcs.kill("gatan"))
    kill.start()
    with pytest.raises(FailedStatus) as caught:
        session.RE(plan())
    assert isinstance(caught.value.__cause__, ServerUnreachable)
    session.pcs.start("gatan")
    uid = run_of(session.storage.references[-1])
    session.data.wait(uid)
    taken = int(session.data.catalog[uid]["primary/taken"].read().sum())
    assert 0 < taken < 1024
    assert session.data.open(f"{uid}.eels/{taken - 1}").read().any()


def test_a_stopped_fly_scan_is_stored_to_its_last_frame_while_the_run_continues(
    session: Session,
) -> None:
    eels = session.devices["eels"]
    kept: list[Any] = []

    def lose(message: Msg) -> tuple[None, MsgGenerator | None]:
        if message.command == "collect" and eels.flown and not kept:
            kept.append(eels.flown)
            return None, _fail()
        return None, None

    def _fail() -> MsgGenerator[None]:
        raise RuntimeError("something else in the plan")
        yield Msg("null")

    @bpp.stage_decorator([eels])
    @bpp.run_decorator()
    def plan() -> MsgGenerator[None]:
        stub = fly([eels], MapInfo(shape=(32, 30), livetime=1e-3))
        try:
            yield from bpp.plan_mutator(stub, lose)
        except RuntimeError:
            last = eels.flown
        yield from wait_for(last, session.data, until="stored", timeout=30)
        kept.extend((yield from per_shot([eels], "after")))

    (uid,) = session.RE(plan()).run_start_uids
    session.data.wait(uid)
    assert 0 < session.data.catalog[uid]["primary/taken"].read().sum() < 960
    assert session.data.open(kept[-1]).read().shape == (2048,)


def test_a_detector_that_was_prepared_only_does_not_disturb_the_next_fly_scan(
    session: Session,
) -> None:
    eels, adf = session.devices["eels"], session.devices["adf"]

    @bpp.stage_decorator([eels, adf])
    @bpp.run_decorator()
    def prepare_only() -> MsgGenerator[None]:
        for detector in (eels, adf):
            yield from bps.prepare(detector, MapInfo(shape=(4, 8), livetime=1e-3), wait=True)

    session.RE(prepare_only())
    uid, (last,) = take(session, fly([eels], MapInfo(shape=(2, 8), livetime=1e-3)), [eels])
    assert last == f"{uid}.eels/15"
    session.data.wait(uid)


def test_settings_of_a_fly_scan_cannot_change_during_it(session: Session) -> None:
    eels = session.devices["eels"]

    @bpp.stage_decorator([eels])
    @bpp.run_decorator()
    def plan() -> MsgGenerator[None]:
        yield from bps.prepare(eels, MapInfo(shape=(8, 32), livetime=5e-3), wait=True)
        yield from bps.kickoff(eels, wait=True)
        yield from bps.mv(eels.energy_offset, 100.0)

    with pytest.raises(FailedStatus) as caught:
        session.RE(plan())
    assert "energy_offset cannot change while a fly scan is running" in str(caught.value.__cause__)
