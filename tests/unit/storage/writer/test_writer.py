"""Many unfinished runs: the writer keeps few files open, and little in memory."""

import gc
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from bluesky_em.files.codec import pack
from bluesky_em.files.journal_reader import OPEN_LIMIT
from bluesky_em.files.layout import Layout
from bluesky_em.storage.writer import Writer

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
