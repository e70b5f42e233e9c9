import shutil
from pathlib import Path

import filelock
import h5py
import pytest
from typer.testing import CliRunner, Result

from bluesky_em.__main__ import app
from bluesky_em.files.codec import pack
from bluesky_em.files.layout import Layout
from bluesky_em.files.ledger_writer import LedgerWriter


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.journal.mkdir()
    LedgerWriter(layout.ledger).close()
    return layout


def doctor(layout: Layout, *options: str) -> Result:
    command = ["doctor", "--without-tiled", "--storage", str(layout.root), *options]
    return CliRunner().invoke(app, command)


def torn_file(layout: Layout) -> Path:
    path = layout.folder_of("run", 0.0) / "eels.h5"
    path.parent.mkdir(parents=True)
    with h5py.File(path.with_suffix(".open"), "w", libver="latest") as file:
        rows = file.create_dataset("rows", data=[1, 2, 3], maxshape=(None,), chunks=(3,))
        file.swmr_mode = True
        rows.flush()
        shutil.copy(file.filename, path)  # what a killed writer leaves
    return path


def test_a_folder_without_problems_is_reported_as_well(layout: Layout) -> None:
    done = doctor(layout)
    assert (done.exit_code, done.stdout) == (0, "no problems\n")


def test_a_torn_file_is_found_and_repaired_only_on_request(layout: Layout) -> None:
    path = torn_file(layout)
    before = path.read_bytes()
    assert "eels.h5 was being written when its writer was killed" in doctor(layout).stdout
    assert path.read_bytes() == before
    assert doctor(layout, "--repair").exit_code == 0
    with h5py.File(path, "r+") as file:
        assert file["rows"][:].tolist() == [1, 2, 3]
    assert doctor(layout).stdout == "no problems\n"


def test_files_are_not_repaired_while_a_writer_works(layout: Layout) -> None:
    torn_file(layout)
    with filelock.FileLock(layout.writer_lock):
        assert doctor(layout, "--repair").stdout == "no problems\n"


def test_a_file_that_is_not_hdf5_is_named(layout: Layout) -> None:
    (layout.data).mkdir()
    (layout.data / "eels.h5").write_bytes(b"overwritten")
    done = doctor(layout)
    assert done.exit_code == 1
    assert "eels.h5 is damaged" in done.stdout and "backup" in done.stdout


def test_files_left_by_killed_processes_are_removed(layout: Layout) -> None:
    (layout.data).mkdir()
    left = [layout.data / "eels.part", layout.journal / "run.lock"]
    for path in left:
        path.touch()
    assert doctor(layout).stdout.count("was left by a process that was killed") == 2
    assert all(path.exists() for path in left)
    doctor(layout, "--repair")
    assert not any(path.exists() for path in left)


def test_runs_that_wait_for_a_writer_and_damaged_journals_are_reported(layout: Layout) -> None:
    layout.journal_of("run").write_bytes(pack("start", {"uid": "run"}))
    layout.journal_of("torn").write_bytes(b"\x01\x02\x03")
    found = doctor(layout).stdout
    assert "2 runs are not complete, and no writer works" in found and "`bluesky-em writer" in found
    assert "torn.msgpack is damaged at byte 0" in found
