"""Files of other packages' detectors outside the storage folder, and the Tiled that reads them."""

import logging
from pathlib import Path
from typing import Any

import bluesky.plans as bp
import numpy as np
import pytest
import stamina
from ophyd.sim import SynSignalWithRegistry
from ophyd_async.core import StaticPathProvider, UUIDFilenameProvider, init_devices
from ophyd_async.sim import PatternGenerator, SimBlobDetector
from typer.testing import CliRunner

from bluesky_em import Data, Storage
from bluesky_em.__main__ import app
from bluesky_em.app.session import Session
from bluesky_em.files import manifest
from bluesky_em.plan_stubs import preflight

RESTART_TIMEOUT = 180.0  # s; a Tiled server starts in 10 to 15 s on an idle computer


@pytest.fixture(autouse=True)
def usual_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands lower their process's priority, which is that of the tests here."""
    monkeypatch.setattr("bluesky_em.storage.processes.lower_priority", lambda: None)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is not below the storage folder."""
    return tmp_path_factory.mktemp("elsewhere")


@pytest.fixture(scope="module")
def others(elsewhere: Path) -> list[Any]:
    """A classic detector, and one of ophyd-async, that write there."""
    camera = SynSignalWithRegistry(
        func=lambda: np.full((4, 5), 7.0), name="camera", save_path=str(elsewhere)
    )
    with init_devices():
        blob = SimBlobDetector(
            StaticPathProvider(UUIDFilenameProvider(), elsewhere), PatternGenerator(), name="blob"
        )
    return [camera, blob]


@pytest.fixture(scope="module")
def run(session: Session, others: list[Any]) -> str:
    """A complete run of these, and one of our detectors."""
    (uid,) = session.RE(bp.count([session.devices["eels"], *others], num=2)).run_start_uids
    session.data.wait(uid)
    return uid


def verify(session: Session, run: str) -> str:
    """Return what `bluesky-em verify` prints."""
    place = ["--storage", str(session.storage.layout.root)]
    done = CliRunner().invoke(app, ["verify", run, *place])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.output


def test_preflight_warns_of_each_folder_that_tiled_may_not_read(
    session: Session, others: list[Any], elsewhere: Path, caplog: pytest.LogCaptureFixture
) -> None:
    session.RE(preflight([session.devices["eels"], *others], 2))
    for other in others:
        assert f"{other.name} writes into {elsewhere}: it is outside the folders" in caplog.text
    assert f"open the Storage with readable=[{str(elsewhere)!r}]" in caplog.text


def test_a_run_with_files_that_tiled_cannot_read_says_so_wherever_it_is_called_complete(
    session: Session, http: Data, run: str, elsewhere: Path
) -> None:
    for data in (session.data, http):
        remark = data.wait(run).remark
        assert remark.startswith("complete, but Tiled cannot read ")
        assert "primary/camera" in remark and "primary/blob" in remark and str(elsewhere) in remark
        assert "readable=[" in remark
    start = session.data.catalog[run].metadata["start"]
    account = manifest.read(session.storage.layout.folder_of(run, start["time"])) or {}
    assert {each["array"] for each in account["unreadable"]} >= {"primary/camera", "primary/blob"}
    printed = verify(session, run)
    assert f"unreadable: Tiled cannot read primary/camera from {elsewhere}" in printed
    assert "0 findings" not in printed


def test_a_run_warns_of_such_a_file_when_it_refers_to_it(
    session: Session, others: list[Any], elsewhere: Path, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    others[0].save_path = str(tmp_path)
    try:
        session.RE(bp.count([others[0]]))
    finally:
        others[0].save_path = str(elsewhere)
    assert f"Tiled will not be able to read {tmp_path}" in caplog.text


def test_declared_folders_are_read_and_earlier_runs_in_them_too(
    session: Session, others: list[Any], run: str, elsewhere: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    with Storage(session.storage.layout.root, readable=[elsewhere]):
        pass  # its declaration stays
    for attempt in stamina.retry_context(on=Exception, timeout=RESTART_TIMEOUT, attempts=None):
        with attempt:
            camera = session.data.catalog[run]["primary"]["camera"].read()
    np.testing.assert_array_equal(camera, np.full((2, 4, 5), 7.0))
    assert "0 findings" in verify(session, run)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        session.RE(preflight([session.devices["eels"], *others], 1))
        (later,) = session.RE(bp.count(others)).run_start_uids
    assert "may read" not in caplog.text and "be able to read" not in caplog.text
    assert session.data.wait(later).remark == "complete"


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError, match="absent is no folder here: create it, or give"):
        Storage(tmp_path / "storage", readable=[tmp_path / "absent"])
