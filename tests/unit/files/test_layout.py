import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bluesky_em.files.layout import Layout, plain

ROOT = Path("/storage")
HOSTILE = ["../../etc/passwd", "..", "/etc/passwd", "C:\\x", "a\x00b", "a/b", "~", "a.b", "a:b"]


def test_a_storage_folder_has_its_paths():
    layout = Layout(ROOT)
    assert layout.journal == ROOT / "journal"
    assert layout.data == ROOT / "data"
    assert layout.ledger == ROOT / "ledger.sqlite"
    assert layout.journal_of("abc-1") == ROOT / "journal" / "abc-1.msgpack"


def test_journals_are_listed_by_name_and_without_their_locks(tmp_path: Path):
    layout = Layout(tmp_path)
    assert layout.journals() == []
    layout.journal.mkdir()
    for name in ("b.msgpack", "a.msgpack", "a.lock", ".writable"):
        (layout.journal / name).touch()
    assert [path.name for path in layout.journals()] == ["a.msgpack", "b.msgpack"]


def test_naming_paths_creates_none_of_them(tmp_path: Path):
    Layout(tmp_path / "new").frames_of("run", 0.0, "eels")
    assert not list(tmp_path.iterdir())


@pytest.fixture(params=["UTC", "Asia/Tokyo", "America/Los_Angeles"])
def _time_zone(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="Windows has no tzset")
@pytest.mark.usefixtures("_time_zone")
def test_frames_are_filed_by_the_utc_day_of_the_start():
    just_before_midnight = datetime(2024, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()
    place = Layout(ROOT).frames_of("run-1", just_before_midnight, "eels")
    assert place == ROOT / "data/2024/12/31/run-1/eels.h5"
    assert "2025/01/01" in Layout(ROOT).frames_of("r", just_before_midnight + 1, "eels").as_posix()


def test_another_stream_has_a_file_beside_it():
    layout = Layout(ROOT)
    first, second = (layout.frames_of("r", 0.0, "eels", stream) for stream in ("", "dark"))
    assert first.parent == second.parent
    assert first != second


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_leads_out_of_the_data_folder(name: str):
    layout = Layout(ROOT)
    place = layout.frames_of(name, 0.0, name, name)
    assert place.resolve().is_relative_to(layout.data)
    assert len(place.relative_to(layout.data).parts) == 5
    assert layout.journal_of(name).resolve().parent == layout.journal


def test_an_ordinary_name_stays_readable():
    assert plain("haadf-left_2") == "haadf-left_2"
    assert plain("eels 1").startswith("eels_1-")
