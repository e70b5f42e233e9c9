import logging
import zlib
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import h5py
import pytest

from bluesky_em.files import master
from bluesky_em.files.master import CompleteRun, _formats
from tests.support.recorded_run import Recorded


@pytest.fixture
def run(tmp_path: Path) -> Recorded:
    run = Recorded(tmp_path)
    run.frame()
    run.close()
    return run


def write(run: Recorded) -> dict[str, Any]:
    return master.write(run.layout, run.layout.journal_of(run.uid), run.frames, run.manifest)


def list_of_frames(run: CompleteRun, path: Path) -> str:
    """Write the format of another package."""
    path.write_text("\n".join(frame.reference for frame in run.frames))
    return ".txt"


def breaks(run: CompleteRun, path: Path) -> str:
    path.write_text("half of it")
    raise RuntimeError("it did not work out")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register two formats as another package does."""
    formats = {"list": f"{__name__}:list_of_frames", "broken": f"{__name__}:breaks"}
    points = EntryPoints(EntryPoint(name, value, _formats.GROUP) for name, value in formats.items())
    monkeypatch.setattr(_formats, "entry_points", lambda group: points.select(group=group))


def test_nexus_is_the_default_format(run: Recorded) -> None:
    account = write(run)
    assert account["format"] == "nexus" and account["path"].endswith(f"/{run.uid}.nxs")
    with h5py.File(run.layout.root / account["path"]) as file:
        assert file["entry/eels/data"].shape == (1, 6)


@pytest.mark.usefixtures("installed")
def test_a_format_of_another_package_is_written_if_selected(
    run: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLUESKY_EM_MASTER_FORMAT", "list")
    account = write(run)
    assert account["format"] == "list"
    path = run.folder / f"{run.uid}.txt"
    assert path.read_text() == f"{run.uid}.eels/0"
    assert account["checksums"] == [zlib.crc32(path.read_bytes())]
    assert account["bytes"] == path.stat().st_size


def test_writing_twice_leaves_one_file(run: Recorded) -> None:
    assert write(run) == write(run)
    assert sorted(path.name for path in run.folder.iterdir()) == sorted(
        ["eels.h5", f"{run.uid}.nxs"]
    )


@pytest.mark.usefixtures("installed")
def test_a_format_that_fails_is_reported_and_leaves_nothing(
    run: Recorded, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("BLUESKY_EM_MASTER_FORMAT", "broken")
    with caplog.at_level(logging.ERROR):
        account = write(run)
    assert account == {"format": "broken", "path": "", "failure": "it did not work out"}
    assert f"run {run.uid} has no master file" in caplog.text
    assert [path.name for path in run.folder.iterdir()] == ["eels.h5"]


def test_an_unknown_format_is_refused_with_the_installed_ones(
    run: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLUESKY_EM_MASTER_FORMAT", "nxem")
    assert write(run)["failure"] == (
        "BLUESKY_EM_MASTER_FORMAT asks for the master format 'nxem'; installed are: nexus"
    )
