"""Many unfinished runs: the writer keeps few files open, and little in memory."""

import gc
import sqlite3
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from bluesky_em.files.codec import pack
from bluesky_em.files.journal_reader import OPEN_LIMIT
from bluesky_em.files.layout import Layout
from bluesky_em.storage.writer import Writer, _writer

RUNS = 150
MEMORY_LIMIT = 50_000  # bytes for each unfinished run


class IdleThread:
    def __init__(self, *_: Any):
        pass

    def start(self) -> None:
        pass

    def stop(self, timeout: float | None = None) -> None:
        pass


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.journal.mkdir()
    return layout


@pytest.fixture
def writer(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Iterator[Writer]:
    """A writer whose feeder does nothing, as if Tiled were away."""
    monkeypatch.setattr("bluesky_em.storage.catalog._feeder.PeriodicThread", IdleThread)
    writer = Writer(layout.root, lambda: None)
    yield writer
    writer.close()
    for run in writer._runs.values():
        run.reader.close()


def append(layout: Layout, run: int, *names: str) -> None:
    with layout.journal_of(str(run)).open("ab") as file:
        for name in names:
            document = {"uid": f"{name} {run}", "time": 1.0, "run_start": str(run)}
            file.write(pack(name, document | {"metadata": "m" * 1000}))


def open_journals(layout: Layout) -> int:
    files = [Path(file.path) for file in psutil.Process().open_files()]
    return sum(file.parent == layout.journal and file.suffix == ".msgpack" for file in files)


def test_runs_that_wait_for_tiled_have_no_open_journal_and_need_little_memory(
    layout: Layout, writer: Writer
):
    for run in range(RUNS):
        append(layout, run, "start", "descriptor", "stop")
    tracemalloc.start()
    writer._read_journals()
    gc.collect()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert writer._left() == RUNS
    assert open_journals(layout) == 0
    assert used / RUNS < MEMORY_LIMIT


def test_journals_that_may_still_grow_share_a_limited_number_of_open_files(
    layout: Layout, writer: Writer
):
    for run in range(RUNS):
        append(layout, run, "start")
    writer._read_journals()
    assert writer._left() == 0
    assert open_journals(layout) <= OPEN_LIMIT
    for run in range(RUNS):
        append(layout, run, "stop")
    writer._read_journals()
    assert writer._left() == RUNS
    assert open_journals(layout) == 0


def test_a_journal_whose_run_has_ended_is_read_no_more(layout: Layout, writer: Writer):
    append(layout, 1, "start", "stop")
    writer._read_journals()
    with layout.journal_of("1").open("ab") as file:
        file.write(b"\xc1 damaged")
    writer._read_journals()
    assert not writer.trouble


def test_a_run_is_forgotten_once_the_feed_has_completed_it(layout: Layout, writer: Writer):
    append(layout, 1, "start", "stop")
    writer._read_journals()
    (ending,) = writer._ended.values()
    assert ending.files_closed and not ending.abandoned
    assert writer._left() == 1
    ending.complete = True
    writer._read_journals()
    writer._read_journals()
    assert writer._left() == 0 and not writer._ended


def test_a_run_whose_process_died_is_ended_without_a_stop_document(layout: Layout, writer: Writer):
    append(layout, 1, "start")
    writer._read_journals()
    append(layout, 1, "descriptor")
    writer._find_abandoned()
    (ending,) = writer._ended.values()
    assert ending.files_closed and ending.abandoned
    assert open_journals(layout) == 0


def test_a_journal_that_cannot_be_read_waits_alone_with_words(
    layout: Layout, writer: Writer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_writer, "DISK_RETRY_INTERVAL", 0.0)
    layout.journal_of("0").mkdir()
    append(layout, 1, "start")
    append(layout, 2, "start", "stop")
    writer._read_journals()
    assert [path.stem for path in writer._ended] == ["2"]
    writer._do_each_second()
    assert [path.stem for path in writer._ended] == ["2", "1"]
    assert writer._ledger.heartbeat().time > 0
    assert "the journal of run 0 cannot be read: [Errno" in writer.trouble
    layout.journal_of("0").rmdir()
    append(layout, 0, "start", "stop")
    writer._read_journals()
    assert not writer.trouble
    assert [path.stem for path in writer._ended] == ["2", "1", "0"]


def test_an_abandoned_journal_is_not_ended_before_it_can_be_read(layout: Layout, writer: Writer):
    append(layout, 1, "start")
    writer._read_journals()
    layout.journal_of("1").unlink()
    for run in range(2, OPEN_LIMIT + 2):  # so that the journal is not open any more
        append(layout, run, "start")
    writer._read_journals()
    writer._find_abandoned()
    assert [path.stem for path in writer._runs] == ["1"]
    assert "the journal of run 1 cannot be read: [Errno 2]" in writer.trouble


def test_a_lock_that_cannot_be_examined_concerns_its_run_only(layout: Layout, writer: Writer):
    append(layout, 1, "start")
    append(layout, 2, "start")
    layout.journal_of("1").with_suffix(".lock").mkdir()
    writer._read_journals()
    writer._do_each_second()
    assert [path.stem for path in writer._runs] == ["1"]
    assert "the lock file of run 1 cannot be read: [Errno" in writer.trouble


def test_a_ledger_that_cannot_be_written_concerns_all_runs(
    layout: Layout, writer: Writer, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    append(layout, 1, "start", "stop")
    monkeypatch.setattr(writer._ledger, "add_frames", full)
    with pytest.raises(sqlite3.OperationalError):
        writer._read_journals()
    assert not writer.trouble
