"""The commands for an operator when something is wrong: status, verify, retry, give-up, doctor."""

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import bluesky.plans as bp
import numpy as np
import pytest
from ophyd_async.core import Array1D, soft_signal_rw
from tiled.client import from_uri

from bluesky_em import Data, ReferenceFailed
from bluesky_em.app.session import Session
from bluesky_em.files.hdf5 import FramesReader
from bluesky_em.files.layout import Layout
from bluesky_em.files.tiled.address import TiledAddress
from bluesky_em.reference import run_of
from tests.support.interruption import writer_stopped
from tests.support.operator_command import operator_command


def manifest_of(session: Session, uid: str) -> dict:
    (path,) = session.storage.layout.data.rglob(f"{uid}/manifest.json")
    return json.loads(path.read_text())


@pytest.fixture
def complete_run(session: Session) -> str:
    uid = run_of(session.acquire_eels(exposure=0.001))
    session.data.wait(uid)
    return uid


def test_a_lost_frame_fails_and_a_retry_stores_it_once_it_is_found(
    session: Session, http: Data, tmp_path: Path
) -> None:
    assert session.pcs is not None
    with writer_stopped(session):
        references = session.RE(
            session.plans["spectrum"](session.devices["eels"], exposure=0.001, num=3)
        ).plan_result
        spool = session.storage.layout.root / "gatan-pc" / "spool"
        session.pcs.kill("gatan")
        frame = next(p for p in spool.iterdir() if references[1].encode() in p.read_bytes())
        lost = frame.rename(tmp_path / frame.name)
        session.pcs.start("gatan")
    uid = run_of(references[0])
    session.data.wait(uid)
    for data in (session.data, http):
        with pytest.raises(ReferenceFailed, match=r"eels/1: failed; .*not in the spool"):
            data.open(references[1])
        assert data.open(references[2]).read().sum() != 0
    array = session.data.catalog[uid]["primary/eels"]
    assert np.isnan(array[1]).all() and not np.isnan(array[2]).any()
    manifest = manifest_of(session, uid)
    assert manifest["references"] == {"catalogued": 2, "failed": 1}
    assert manifest["files"][0]["gaps"] == [1] and list(manifest["failed"]) == [references[1]]

    session.pcs.kill("gatan")
    lost.rename(frame)
    session.pcs.start("gatan")
    assert "The writer works on it" in operator_command(session, "retry", references[1]).stdout
    session.data.wait(references[1])
    session.data.wait(uid)
    for data in (session.data, http):
        assert data.open(references[1]).read().sum() != 0
    assert manifest_of(session, uid)["files"][0]["gaps"] == []
    account = dict(http.catalog[uid].metadata["bluesky_em"])
    assert account.pop("results") == f"results/about-{uid}"
    assert account == manifest_of(session, uid)
    assert "0 findings" in operator_command(session, "verify", uid).stdout


def test_frames_of_a_server_that_is_gone_are_given_up_and_later_stored_by_a_retry(
    session: Session,
) -> None:
    assert session.pcs is not None
    with writer_stopped(session):
        reference = session.acquire_eels(exposure=0.001)
        session.pcs.kill("gatan")
    uid = run_of(reference)
    status = json.loads(operator_command(session, "status", "--json").stdout)
    silent = {spool["server"]: spool["trouble"] for spool in status["spools"]}
    assert "No acquisition server answers" in silent[session.pcs.uris["gatan"]]
    found = operator_command(session, "doctor", "--runs", "0")
    assert found.exit_code == 1 and "1 frames wait at PYRO:eels_server" in found.stdout
    assert operator_command(session, "give-up", uid, "--reason", "that PC burnt").exit_code == 0
    session.data.wait(uid)
    with pytest.raises(ReferenceFailed, match="given up by request: that PC burnt"):
        session.data.open(reference)
    session.pcs.start("gatan")
    operator_command(session, "retry", uid)
    assert session.data.wait(reference).stage == "catalogued"


def test_bytes_that_another_program_changed_are_found(session: Session, complete_run: str) -> None:
    (path,) = session.storage.layout.data.rglob(f"{complete_run}/eels.h5")
    assert operator_command(session, "verify", complete_run).exit_code == 0
    with FramesReader(path) as reader:
        pixels = reader.read(0).tobytes()
    content = path.read_bytes()
    assert pixels in content
    path.write_bytes(content.replace(pixels, pixels[:-4] + b"oops"))
    verified = operator_command(session, "verify", complete_run)
    assert verified.exit_code == 1 and "wrong: " in verified.stdout
    assert "exposed was" in verified.stdout and "Tiled gives other bytes" in verified.stdout
    path.write_bytes(content)


def test_doubled_rows_in_tiled_of_an_array_inside_events_are_found(
    session: Session, tiled: TiledAddress
) -> None:
    trace = soft_signal_rw(Array1D[np.float64], np.arange(32.0), name="trace")
    (uid,) = session.RE(bp.count([trace], num=2)).run_start_uids
    session.data.wait(uid)
    assert operator_command(session, "verify", uid).exit_code == 0
    writer: Any = from_uri(tiled.uri, api_key=tiled.writer_key)
    with contextlib.closing(writer.context):
        writer[uid]["primary"].base["trace"].patch(np.zeros((2, 32)), offset=(2,), extend=True)
    verified = operator_command(session, "verify", uid).stdout
    assert "doubled: primary/trace has 4 rows in Tiled, events: 2" in verified


def lose(layout: Layout, uid: str) -> None:
    """Delete a run from the embedded server's database, since no key can delete."""
    with contextlib.closing(sqlite3.connect(layout.catalog / "catalog.db", timeout=10)) as db, db:
        db.execute("PRAGMA foreign_keys=ON")
        db.execute("DELETE FROM nodes WHERE key=?", [uid])


def test_a_run_that_tiled_has_lost_is_found_and_written_again(
    session: Session, http: Data, complete_run: str
) -> None:
    lose(session.storage.layout, complete_run)
    dry = operator_command(session, "doctor", "--runs", "1")
    assert dry.exit_code == 1
    assert f"lost: Tiled does not have the run (run {complete_run})" in dry.stdout
    assert "repaired" in operator_command(session, "doctor", "--runs", "1", "--repair").stdout
    session.data.wait(complete_run)
    assert operator_command(session, "doctor", "--runs", "1").stdout.endswith("no problems\n")
    assert http.open(f"{complete_run}.eels/0").read().shape == (2048,)


def test_status_shows_counts_and_what_waits_at_each_server(
    session: Session, complete_run: str
) -> None:
    shown = operator_command(session, "status").stdout
    assert "catalogued" in shown and "frames/s stored" in shown and "no trouble" in shown
    status = json.loads(operator_command(session, "status", "--json").stdout)
    assert status["captured"] == 0 and status["catalogued"] > 0
    assert {spool["frames"] for spool in status["spools"]} == {0}


def test_a_request_for_an_unknown_run_is_refused(session: Session) -> None:
    asked = operator_command(session, "retry", "no-such-run")
    assert isinstance(asked.exception, LookupError)
    assert "neither a reference nor a run in" in str(asked.exception)
