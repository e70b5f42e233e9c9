"""A damaged frames file is replaced by one with all frames that can still be read."""

import errno
from pathlib import Path

import h5py
import pytest

from bluesky_em.files.hdf5 import FramesFile, FramesReader, replace_damaged
from tests.support.simple_frames import frame, pixels

FRAMES = [frame(number) for number in range(5)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "haadf.h5"
    file = FramesFile(path, FRAMES[0])
    for each in FRAMES:
        file.write(each, pixels(each.number))
    file.close()
    return path


@pytest.mark.parametrize(
    "lost",
    ["frames/axis_offset", "frames/axis_scale", "frames/number", "frames/time", "frames"],
)
def test_frames_in_the_ledger_are_taken_over_whatever_else_is_lost(path: Path, lost: str):
    with h5py.File(path, "r+", libver="latest") as file:
        del file[f"/entry/{lost}"]
    _, missing = replace_damaged(path, FRAMES[0], FRAMES)
    assert missing == []
    with FramesReader(path) as reader:
        assert reader.numbers() == [0, 1, 2, 3, 4]
        assert (reader.read(4) == pixels(4)).all()


def test_a_row_whose_values_are_lost_does_not_keep_others_from_being_taken_over(path: Path):
    with h5py.File(path, "r+", libver="latest") as file:
        file["/entry/frames/time"].resize(3, axis=0)  # type: ignore
    _, missing = replace_damaged(path, FRAMES[0], FRAMES[4:])
    assert missing == []
    with FramesReader(path) as reader:
        assert reader.numbers() == [0, 1, 2, -1, 4]


def test_a_full_disk_loses_no_frame_and_leaves_the_damaged_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    before = path.read_bytes()
    monkeypatch.setattr(FramesFile, "write", refuse)
    with pytest.raises(OSError, match="No space left"):
        replace_damaged(path, FRAMES[0], FRAMES)
    assert len(path.read_bytes()) == len(before)
    assert [each.name for each in path.parent.iterdir()] == ["haadf.h5"]
    monkeypatch.undo()
    _, missing = replace_damaged(path, FRAMES[0], FRAMES)
    assert missing == []


def refuse(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")
