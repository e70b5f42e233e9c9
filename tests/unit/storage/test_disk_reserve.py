import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from bluesky_em.storage.disk_reserve import RESERVE_BYTES, DiskReserve


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "reserve"


def leave_free(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=size))


def test_the_reserve_is_a_file_that_really_takes_its_space(path: Path) -> None:
    DiskReserve(path).restore()
    assert path.stat().st_size == RESERVE_BYTES
    assert path.stat().st_blocks * 512 >= RESERVE_BYTES  # not sparse: the space is taken
    assert [each.name for each in path.parent.iterdir()] == ["reserve"]


def test_giving_it_up_frees_its_space_and_tells_the_operator(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reserve = DiskReserve(path)
    reserve.restore()
    assert reserve.give_up()
    assert not path.exists()
    assert f"the disk of {path.parent} is full" in caplog.text
    assert "documents now go into the last 16 MB" in caplog.text


def test_giving_it_up_twice_frees_nothing_and_is_not_logged_again(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reserve = DiskReserve(path)
    reserve.restore()
    assert [reserve.give_up(), reserve.give_up()] == [True, False]
    assert len(caplog.records) == 1


def test_it_is_restored_only_when_twice_its_size_is_free(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = DiskReserve(path)
    leave_free(monkeypatch, 2 * RESERVE_BYTES - 1)
    reserve.restore()
    assert not path.exists()
    leave_free(monkeypatch, 2 * RESERVE_BYTES)
    reserve.restore()
    assert path.stat().st_size == RESERVE_BYTES


def test_a_reserve_that_is_there_is_not_written_again(path: Path) -> None:
    path.write_bytes(b"of an earlier session")
    DiskReserve(path).restore()
    assert path.read_bytes() == b"of an earlier session"


def test_on_a_disk_that_is_gone_nothing_is_given_up_and_restoring_says_so(tmp_path: Path) -> None:
    reserve = DiskReserve(tmp_path / "unplugged" / "reserve")
    assert not reserve.give_up()
    with pytest.raises(FileNotFoundError):
        reserve.restore()
