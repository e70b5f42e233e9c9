import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from bluesky_em.files.journal import is_abandoned
from bluesky_em.files.journal_reader import read
from bluesky_em.files.layout import Layout
from bluesky_em.storage import open_journals
from bluesky_em.storage.disk_reserve import RESERVE_BYTES
from bluesky_em.storage.open_journals import OpenJournals

LONG = 1000.0  # seconds
EVENT = {"uid": "event", "data": {"x": 1.0}}
FULL = OSError(28, "No space left on device")


class Disk:
    """The disk of the journals: counts what is synced, and refuses writes while it is full."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.full = False
        self.synced = 0
        monkeypatch.setattr(open_journals.Journal, "_write", self._writing(open_journals.Journal))
        monkeypatch.setattr(os, "fsync", self._fsync)

    def _writing(self, journal: type):
        write = journal._write

        def _write(this: open_journals.Journal, record: bytes) -> bool:
            if self.full:
                this.trouble = FULL.strerror
                return False
            return write(this, record)

        return _write

    def _fsync(self, descriptor: int) -> None:
        self.synced += stat.S_ISREG(os.fstat(descriptor).st_mode)  # not of the folder


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    monkeypatch.setattr(open_journals, "SYNC_INTERVAL", LONG)  # `_maintain` is called by the tests
    return Disk(monkeypatch)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.journal.mkdir()
    return layout


@pytest.fixture
def held() -> list[str]:
    """The reasons why detectors must wait, as they were passed on."""
    return [""]


@pytest.fixture
def journals(layout: Layout, disk: Disk, held: list[str]) -> Iterator[OpenJournals]:
    journals = OpenJournals(layout, power_safe=False, hold=held.append)
    journals.begin("run-1")
    yield journals
    disk.full = False
    journals.close()


def events_in(layout: Layout, run: str) -> int:
    return [name for name, _ in read(layout.journal_of(run))].count("event")


def test_appending_writes_at_once_and_leaves_the_sync_to_the_thread(
    journals: OpenJournals, layout: Layout, disk: Disk
) -> None:
    journals.append("run-1", "event", EVENT)
    assert (events_in(layout, "run-1"), disk.synced) == (1, 0)
    journals._sync()
    assert disk.synced == 1
    journals._sync()
    assert disk.synced == 1  # nothing new


def test_power_safe_journals_sync_each_document_before_append_returns(
    layout: Layout, disk: Disk
) -> None:
    journals = OpenJournals(layout, power_safe=True, hold=lambda _: None)
    journals.begin("run-1")
    for synced in (1, 2):
        journals.append("run-1", "event", EVENT)
        assert disk.synced == synced
    journals.close()


def test_the_newest_run_is_the_last_of_those_still_open(journals: OpenJournals) -> None:
    journals.begin("run-2")
    assert journals.newest == "run-2" and "run-2" in journals
    journals.end("run-2")
    assert journals.newest == "run-1" and "run-2" not in journals
    journals.end("run-1")
    assert journals.newest is None


def test_an_ended_run_is_synced_and_closed_by_the_thread(
    journals: OpenJournals, layout: Layout, disk: Disk
) -> None:
    journals.append("run-1", "stop", {"uid": "stop"})
    journals.end("run-1")
    assert disk.synced == 0 and not is_abandoned(layout.journal_of("run-1"))
    journals._sync()
    assert disk.synced > 0 and is_abandoned(layout.journal_of("run-1"))


def test_documents_that_the_disk_refuses_wait_in_memory_and_detectors_wait_for_them(
    journals: OpenJournals, layout: Layout, disk: Disk, held: list[str]
) -> None:
    disk.full = True
    for _ in range(2):
        journals.append("run-1", "event", EVENT)
    assert journals.trouble == held[-1]
    assert journals.trouble == (
        f"{layout.root} cannot be written (No space left on device): 2 documents wait for it "
        "in memory. Free some space on its disk, or reconnect it"
    )
    journals._sync()
    assert held[-1] == journals.trouble != ""
    assert events_in(layout, "run-1") == 0


def test_late_documents_are_written_in_order_once_the_disk_takes_them(
    journals: OpenJournals,
    layout: Layout,
    disk: Disk,
    held: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    disk.full = True
    for number in range(3):
        journals.append("run-1", "event", {"seq_num": number})
    disk.full = False
    journals.append("run-1", "event", {"seq_num": 3})  # behind those that wait
    journals._sync()
    assert journals.trouble == held[-1] == ""
    numbers = [document["seq_num"] for _, document in read(layout.journal_of("run-1"))]
    assert numbers == [0, 1, 2, 3]
    assert f"{layout.journal_of('run-1')} can be written again, nothing is lost" in caplog.text


def test_the_late_documents_of_an_ended_run_are_still_trouble_until_they_are_written(
    journals: OpenJournals, layout: Layout, disk: Disk, held: list[str]
) -> None:
    disk.full = True
    journals.append("run-1", "event", EVENT)
    journals.end("run-1")
    with pytest.raises(OSError, match="1 documents wait for .*run-1.msgpack, which cannot be"):
        journals._sync()
    assert "1 documents wait" in journals.trouble
    disk.full = False
    journals._sync()
    assert journals.trouble == held[-1] == ""
    assert events_in(layout, "run-1") == 1


def test_closing_says_when_documents_would_be_lost_and_may_be_repeated(
    journals: OpenJournals, layout: Layout, disk: Disk
) -> None:
    disk.full = True
    journals.append("run-1", "event", EVENT)
    with pytest.raises(OSError, match="1 documents wait for .*: No space left on device"):
        journals.close()
    disk.full = False
    journals.close()
    journals.close()
    assert events_in(layout, "run-1") == 1


def test_a_run_that_has_a_journal_cannot_begin_again(journals: OpenJournals) -> None:
    with pytest.raises(FileExistsError, match="has begun already"):
        journals.begin("run-1")


def test_a_run_does_not_begin_when_its_journal_cannot_be_created(
    journals: OpenJournals, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(open_journals, "Journal", refuse)
    words = "the run is not begun, .*run-2.msgpack cannot be created .Read-only.*another folder"
    with pytest.raises(OSError, match=words):
        journals.begin("run-2")
    assert "run-2" not in journals and journals.newest == "run-1"


def test_the_disk_reserve_is_written_and_given_up_for_the_documents_of_a_full_disk(
    layout: Layout, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    journals = OpenJournals(layout, power_safe=False, hold=lambda _: None)
    journals._maintain()
    assert layout.reserve.stat().st_size == RESERVE_BYTES
    journals.begin("run-1")
    assert journals._open["run-1"]._make_room()  # what a journal does when the disk is full
    assert not layout.reserve.exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 40))
    journals._maintain()
    assert not layout.reserve.exists()  # tried every 5 s only
    journals._next_restore = 0.0
    journals._maintain()
    assert layout.reserve.exists()
    journals.close()
