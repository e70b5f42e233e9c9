"""Outages during plans: plans continue, and finally every reference is accounted for."""

import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from bluesky.utils import RunEngineInterrupted

from bluesky_em import Data, NotReady, Storage
from bluesky_em.app.session import Session
from bluesky_em.files import journal_reader
from bluesky_em.reference import run_of
from bluesky_em.storage.processes import BUSY
from tests.support.interruption import at_event, pid_of

NOWHERE = "http://127.0.0.1:1"
"""A Tiled address at which nothing answers."""


def take(session: Session, num: int, callback: Any, exposure: float = 0.01) -> list[str]:
    plan = session.plans["spectrum"](session.devices["eels"], exposure=exposure, num=num)
    result = session.RE(plan, callback)
    assert result.exit_status == "success"
    return result.plan_result


def assert_all_there_once(session: Session, http: Data, references: list[str]) -> None:
    uid = run_of(references[0])
    session.data.wait(uid, timeout=100)
    stream = http.catalog[uid]["primary"]
    assert stream["eels"].shape == (len(references), 2048)
    assert list(stream.base["internal"].read()["seq_num"]) == list(range(1, len(references) + 1))
    documents = journal_reader.read(session.storage.layout.journal_of(uid))
    checksums = [d["datum_kwargs"]["checksum"] for name, d in documents if name == "datum"]
    assert [zlib.crc32(frame) for frame in stream["eels"].read()] == checksums


@pytest.mark.parametrize("victim", ["writer", "Tiled server"])
def test_killing_a_process_in_mid_run_loses_and_doubles_nothing(
    session: Session, http: Data, victim: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert http.catalog is not None
    kill = at_event(20, lambda: os.kill(pid_of(session, victim), signal.SIGKILL))
    references = take(session, 60, kill)
    assert_all_there_once(session, http, references)
    assert f"the {victim} ended" in caplog.text and "nothing is lost" in caplog.text


def test_pausing_in_mid_exposure_and_resuming_leaves_no_gap(session: Session, http: Data) -> None:
    pauser = threading.Timer(0.05, session.RE.request_pause)
    plan = session.plans["spectrum"](session.devices["eels"], exposure=0.3, num=3)
    with pytest.raises(RunEngineInterrupted):
        session.RE(plan, at_event(1, pauser.start))
    pauser.join()
    references = session.RE.resume().plan_result
    assert len(references) == 3
    assert_all_there_once(session, http, references)


def test_aborting_in_mid_exposure_keeps_what_was_taken(session: Session, http: Data) -> None:
    pauser = threading.Timer(0.05, session.RE.request_pause)
    plan = session.plans["spectrum"](
        session.devices["eels"], session.devices["microscope"], exposure=0.5, num=4
    )
    with pytest.raises(RunEngineInterrupted):
        session.RE(plan, at_event(2, pauser.start))
    pauser.join()
    (uid,) = session.RE.abort("enough").run_start_uids
    session.data.wait(uid)
    run = http.catalog[uid]
    assert run.stop["exit_status"] == "abort" and run["primary/eels"].shape[0] == 2
    import bluesky.plan_stubs as bps

    assert session.RE(bps.rd(session.devices["microscope"].beam_blanked)).plan_result is True


def test_a_second_writer_on_one_folder_is_refused(session: Session) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bluesky_em.storage.writer", str(session.storage.layout.root)],
        capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == BUSY
    assert "one folder has one writer" in done.stdout


def test_without_tiled_frames_are_stored_and_waiting_says_what_is_held_up(tmp_path: Path) -> None:
    with Session(tmp_path, latency=False, tiled=NOWHERE) as session:
        reference = session.acquire_eels(exposure=0.001)
        assert session.data.wait(reference, until="stored").stage == "stored"
        deadline = time.monotonic() + 60
        while not session.storage.status().trouble:  # Tiled's client takes seconds to import
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with pytest.raises(NotReady, match=r"eels/0: stored; not catalogued within .*held up"):
            session.data.wait(reference, timeout=0)


def test_the_next_storage_takes_up_what_the_last_one_left(tmp_path: Path) -> None:
    with Session(tmp_path, latency=False, tiled=NOWHERE) as session:
        session.data.wait(session.acquire_eels(exposure=0.001), until="stored")  # writer is up
        os.kill(pid_of(session, "writer"), signal.SIGSTOP)
        reference = session.acquire_eels(exposure=0.001)
        os.kill(pid_of(session, "writer"), signal.SIGKILL)
        with pytest.raises(Exception, match="not stored within"):
            session.data.wait(reference, until="stored", timeout=0.0)
        session.storage.close()
        with Storage(tmp_path, tiled=NOWHERE) as storage:
            assert storage.data.wait(reference, until="stored", timeout=30).stage == "stored"


KILLED = """
import os, signal, sys
import bluesky.plans as bp
from bluesky import RunEngine
from ophyd_async.core import init_devices
from bluesky_em import Storage, gatan
from bluesky_em.reference import run_of

RE = RunEngine()
storage = Storage(sys.argv[1])
RE.subscribe(storage)
with init_devices():
    eels = gatan.Spectrometer(sys.argv[2], path_provider=storage.path_provider)

def kill(name, document):
    if name == sys.argv[3] and len(storage.references) == 4:
        print(run_of(storage.references[0]), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

RE.subscribe(kill)
RE(bp.count([eels], num=10))
"""


@pytest.mark.parametrize(("last", "catalogued"), [("event", 4), ("datum", 3)])
def test_a_run_whose_process_was_killed_is_brought_to_an_end(
    session: Session, http: Data, last: str, catalogued: int
) -> None:
    assert session.pcs is not None
    folder, eels = str(session.storage.layout.root), session.pcs.uris["gatan"]
    with http.follow() as there, session.data.follow() as here:
        done = subprocess.run(
            [sys.executable, "-c", KILLED, folder, eels, last], capture_output=True, text=True
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        uid = done.stdout.strip()
        for points in (next(there), next(here)):
            assert points.run == uid
            assert [point.index for point in points] == [*range(catalogued)]
            assert points.end.status == "abandoned"
    for data in (session.data, http):
        data.wait(uid, timeout=30)
    run = http.catalog[uid]
    assert run["primary/eels"].shape == (catalogued, 2048)
    manifest = run.metadata["bluesky_em"]
    assert manifest["abandoned"] and manifest["references"]["catalogued"] == catalogued
    if last == "datum":
        assert session.data.status(f"{uid}.eels/3").reason.startswith("in no event")
        assert list(manifest["failed"]) == [f"{uid}.eels/3"]


def test_a_terminals_ctrl_c_reaches_neither_storage_nor_the_simulated_pcs(session: Session) -> None:
    assert session.pcs is not None
    children = [pid_of(session, "writer"), session.pcs.processes["gatan"].pid]
    assert not {os.getpgid(pid) for pid in children} & {os.getpgid(0)}


def test_the_beam_is_off_while_a_plan_pauses_and_on_again_after(session: Session) -> None:
    import bluesky.plan_stubs as bps

    from bluesky_em.acquisition.client import Client

    def blanked() -> bool:
        assert session.pcs is not None
        line = Client(session.pcs.uris["autoscript"])
        answer = line.call("get", "beam_blanked")
        line.close()
        return answer

    def plan():
        yield from bps.mv(session.devices["microscope"].beam_blanked, False)
        yield from bps.checkpoint()
        yield from bps.pause()
        yield from bps.null()

    with pytest.raises(RunEngineInterrupted):
        session.RE(plan())
    assert blanked()
    session.RE.resume()
    assert not blanked()
    session.RE(bps.mv(session.devices["microscope"].beam_blanked, True))


def test_pausing_between_points_and_resuming_keeps_each_frame_in_its_row(
    session: Session, http: Data
) -> None:
    import bluesky.plans as bp

    eels = session.devices["eels"]
    pauser = threading.Timer(0.1, session.RE.request_pause)
    with pytest.raises(RunEngineInterrupted):
        session.RE(bp.count([eels], num=4, delay=0.3), at_event(2, pauser.start))
    pauser.join()
    (uid,) = session.RE.resume().run_start_uids
    session.data.wait(uid)
    documents = journal_reader.read(session.storage.layout.journal_of(uid))
    references = [d["data"]["eels"] for name, d in documents if name == "event"]
    datums = {d["datum_id"]: d["datum_kwargs"] for name, d in documents if name == "datum"}
    assert len(set(references)) == len(references) >= 4
    array = http.catalog[uid]["primary/eels"]
    assert array.shape[0] == len(references)
    for row, reference in enumerate(references):
        assert zlib.crc32(http.open(reference).read()) == datums[reference]["checksum"]
        assert zlib.crc32(array[row]) == datums[reference]["checksum"]


def test_frames_wait_while_a_connection_between_the_pcs_is_cut(
    session: Session, http: Data
) -> None:
    """A stopped server behaves like one behind a cut cable: no answer, no refusal."""
    assert session.pcs is not None
    writer, server = pid_of(session, "writer"), session.pcs.processes["gatan"].pid
    os.kill(writer, signal.SIGSTOP)
    references = take(session, 20, None, exposure=0.001)
    os.kill(server, signal.SIGSTOP)
    try:
        os.kill(writer, signal.SIGCONT)
        deadline = time.monotonic() + 60
        address = session.pcs.uris["gatan"].partition("@")[2]
        while address not in session.storage.status().trouble:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with pytest.raises(NotReady, match=f"eels/19: captured.*held up .*{address}"):
            session.data.wait(references[-1], timeout=0)
    finally:
        os.kill(server, signal.SIGCONT)
    assert_all_there_once(session, http, references)
