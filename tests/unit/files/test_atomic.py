import os
import stat
from pathlib import Path

import pytest

from bluesky_em.files.atomic import put_in_place, whole_file, write_whole


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "manifest.json"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The system calls that make a file durable, in order."""
    made: list[str] = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        made.append("sync folder" if is_folder else "sync file")
        fsync(descriptor)

    def record_replace(source: Path, target: Path) -> None:
        made.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    return made


@pytest.mark.parametrize(("data", "written"), [("Δ", "Δ".encode()), (b"\x00\xff", b"\x00\xff")])
def test_a_file_holds_what_was_written(path: Path, data: str | bytes, written: bytes):
    write_whole(path, "an earlier one")
    write_whole(path, data)
    assert path.read_bytes() == written
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot sync a folder")
def test_the_file_is_synced_before_it_is_renamed_and_the_folder_afterwards(
    path: Path, calls: list[str]
):
    write_whole(path, "data")
    assert calls == ["sync file", "rename", "sync folder"]


def test_nothing_is_synced_on_request(path: Path, calls: list[str]):
    write_whole(path, "data", sync=False)
    assert calls == ["rename"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_after_an_error_the_earlier_file_is_unchanged_and_no_temporary_file_is_left(
    path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
):
    def fail(*_: object) -> None:
        raise OSError("no space left")

    write_whole(path, "earlier")
    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="no space left"):
        write_whole(path, "later")
    assert path.read_text() == "earlier"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_of_the_writing_code_leaves_nothing(path: Path):
    with pytest.raises(ZeroDivisionError), whole_file(path) as part:
        part.write_text("torn")
        1 / 0  # noqa: B018
    assert not list(path.parent.iterdir())


def test_a_temporary_file_of_a_killed_process_is_no_obstacle(path: Path):
    with whole_file(path) as part:
        leftover = part
        part.write_text("written")
    leftover.write_text("torn and longer")
    write_whole(path, "data")
    assert path.read_text() == "data"
    assert not leftover.exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_permissions_are_set_before_there_is_any_data(path: Path, monkeypatch: pytest.MonkeyPatch):
    leftover = path.with_name(f"{path.name}.part")
    leftover.touch(mode=0o644)
    modes: list[int] = []
    write_bytes = Path.write_bytes

    def record_mode(file: Path, data: bytes) -> int:
        modes.append(stat.S_IMODE(file.stat().st_mode))
        return write_bytes(file, data)

    monkeypatch.setattr(Path, "write_bytes", record_mode)
    write_whole(path, "a key", mode=0o600)
    assert modes == [0o600]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_folder_that_cannot_be_synced_is_no_error(path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError("invalid argument")

    monkeypatch.setattr(os, "fsync", refuse_folders)
    write_whole(path, "data")
    assert path.read_text() == "data"


def test_a_file_that_another_function_has_written_is_put_in_place(path: Path):
    part = path.with_name("run.part")
    part.write_text("written by a plug-in")
    put_in_place(part, path)
    assert path.read_text() == "written by a plug-in"
    assert not part.exists()
