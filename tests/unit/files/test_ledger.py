import contextlib
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from bluesky_em.files.ledger import QUERIES, KnownCatalog, Ledger
from bluesky_em.files.ledger_writer import KeptStructure, LedgerWriter
from bluesky_em.frame import Frame
from bluesky_em.reference import ReferenceState
from tests.support.ledger_frame import FRAME, frame


@pytest.fixture
def ledger(tmp_path: Path):
    ledger = LedgerWriter(tmp_path / "ledger.sqlite")
    yield ledger
    ledger.close()


def test_a_frame_is_found_as_it_was_entered(ledger: LedgerWriter):
    ledger.add_frames([FRAME])
    entry = ledger.find("run.eels/0")
    assert entry is not None
    assert entry.frame == FRAME
    assert (entry.stage, entry.reason) == (ReferenceState.CAPTURED, "")
    assert entry.captured_at > 0
    assert entry.stored_at is None


def test_entering_a_frame_again_changes_nothing(ledger: LedgerWriter):
    ledger.add_frames([FRAME])
    ledger.mark_stored([FRAME])
    ledger.add_frames([replace(FRAME, checksum=1), frame(1)])
    entry = ledger.find(FRAME.reference)
    assert entry is not None
    assert (entry.frame.checksum, entry.stage) == (FRAME.checksum, ReferenceState.STORED)
    assert ledger.counts()[ReferenceState.CAPTURED] == 1


def test_a_stage_goes_forward_one_by_one_and_notes_when(ledger: LedgerWriter):
    ledger.add_frames([FRAME])
    ledger.mark_stored([FRAME])
    ledger.mark_catalogued([FRAME.reference])
    entry = ledger.find(FRAME.reference)
    assert entry is not None
    assert entry.stage is ReferenceState.CATALOGUED
    assert entry.stored_at is not None
    assert entry.catalogued_at is not None
    assert entry.captured_at <= entry.stored_at <= entry.catalogued_at


def test_no_stage_is_skipped(ledger: LedgerWriter):
    ledger.add_frames([FRAME])
    ledger.mark_catalogued([FRAME.reference])
    assert ledger.stages([FRAME.reference]) == {FRAME.reference: (ReferenceState.CAPTURED, "")}


def test_nothing_goes_backwards_from_catalogued(ledger: LedgerWriter):
    ledger.add_frames([FRAME])
    ledger.mark_stored([FRAME])
    ledger.mark_catalogued([FRAME.reference])
    before = ledger.find(FRAME.reference)
    ledger.mark_stored([FRAME])
    ledger.mark_failed(FRAME.reference, "too late")
    assert ledger.find(FRAME.reference) == before


def test_a_failed_frame_stays_failed_with_its_first_reason(ledger: LedgerWriter):
    ledger.add_frames([FRAME])
    ledger.mark_failed(FRAME.reference, "died with its server")
    ledger.mark_failed(FRAME.reference, "another")
    ledger.mark_stored([FRAME])
    assert ledger.stages([FRAME.reference]) == {
        FRAME.reference: (ReferenceState.FAILED, "died with its server")
    }


def test_an_unknown_reference_is_left_out_and_not_entered_by_a_stage(ledger: LedgerWriter):
    ledger.mark_stored([frame(9)])
    ledger.mark_failed("run.eels/9", "no")
    assert ledger.find("run.eels/9") is None
    assert ledger.stages(["run.eels/9"]) == {}


def test_stages_of_more_references_than_a_statement_takes(ledger: LedgerWriter):
    frames = [frame(number) for number in range(1203)]
    ledger.add_frames(frames)
    ledger.mark_stored(frames[1000:])
    stages = ledger.stages([f.reference for f in frames])
    assert len(stages) == 1203
    assert stages["run.eels/999"] == (ReferenceState.CAPTURED, "")
    assert stages["run.eels/1000"] == (ReferenceState.STORED, "")


def test_counts_name_every_stage(ledger: LedgerWriter):
    assert ledger.counts() == dict.fromkeys(ReferenceState, 0)
    ledger.add_frames(frame(number) for number in range(4))
    ledger.mark_stored([frame(0), frame(1)])
    ledger.mark_catalogued(["run.eels/0"])
    ledger.mark_failed("run.eels/2", "lost")
    assert ledger.counts() == dict.fromkeys(ReferenceState, 1)


def test_frames_of_a_run_come_in_the_order_of_their_events(ledger: LedgerWriter):
    ledger.add_frames([frame(2), frame(10)])
    ledger.add_frames([frame(1), replace(frame(7), reference="other.eels/7", run="other")])
    assert [entry.frame.number for entry in ledger.frames("run")] == [2, 10, 1]


def test_a_run_is_unknown_then_open_then_complete(ledger: LedgerWriter):
    assert ledger.is_complete("run") is None
    ledger.add_run("run")
    assert ledger.is_complete("run") is False
    ledger.complete_run("run")
    ledger.add_run("run")
    assert ledger.is_complete("run") is True
    assert ledger.complete_runs() == {"run"}


def test_the_heartbeat_reports_its_time_and_the_trouble(ledger: LedgerWriter):
    assert (ledger.heartbeat().time, ledger.heartbeat().trouble) == (0.0, "")
    ledger.write_heartbeat("disk full")
    first = ledger.heartbeat()
    ledger.write_heartbeat("")
    assert first.trouble == "disk full"
    assert ledger.heartbeat().trouble == ""
    assert ledger.heartbeat().time >= first.time > 0


def test_a_reader_of_a_missing_ledger_knows_nothing_and_creates_no_file(tmp_path: Path):
    reader = Ledger(tmp_path / "ledger.sqlite")
    assert reader.find("run.eels/0") is None
    assert reader.counts() == dict.fromkeys(ReferenceState, 0)
    assert reader.is_complete("run") is None
    assert reader.heartbeat().time == 0.0
    assert not list(tmp_path.iterdir())
    reader.close()


def test_a_reader_sees_a_ledger_that_appears_later(tmp_path: Path):
    path = tmp_path / "ledger.sqlite"
    reader = Ledger(path)
    assert reader.frames("run") == []
    path.touch()  # the writer is creating it just now
    assert reader.frames("run") == []
    writer = LedgerWriter(path)
    writer.add_frames([FRAME])
    assert [entry.frame for entry in reader.frames("run")] == [FRAME]
    writer.close()
    reader.close()


def test_a_reader_cannot_write(ledger: LedgerWriter):
    reader = Ledger(ledger.path)
    assert reader.counts()[ReferenceState.CAPTURED] == 0
    assert not hasattr(reader, "add_frames")
    assert reader._db is not None
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader._db.execute(QUERIES["add_run"], {"run": "run"})
    assert ledger.is_complete("run") is None
    reader.close()


def test_a_reader_in_parallel_with_the_writer_sees_counts_only_rise(ledger: LedgerWriter):
    writing = threading.Thread(
        target=lambda: [ledger.add_frames([frame(number)]) for number in range(200)]
    )
    reader, seen = Ledger(ledger.path), [0]
    writing.start()
    while seen[-1] < 200:
        seen.append(reader.counts()[ReferenceState.CAPTURED])
    writing.join()
    assert seen == sorted(seen)
    reader.close()


def test_entries_survive_closing_and_closing_twice_is_harmless(tmp_path: Path):
    for _ in range(2):
        ledger = LedgerWriter(tmp_path / "ledger.sqlite")
        ledger.add_frames([FRAME])
        ledger.close()
        ledger.close()
    ledger = LedgerWriter(tmp_path / "ledger.sqlite")
    assert ledger.counts()[ReferenceState.CAPTURED] == 1
    ledger.close()


def block(number: int, count: int) -> Frame:
    return replace(frame(number), count=count, checksum=0, ended=0.0)


def test_a_reference_inside_a_block_is_found_on_its_own(ledger: LedgerWriter):
    ledger.add_frames([block(0, 100), block(100, 30)])
    entry = ledger.find("run.eels/117")
    assert entry is not None and entry.frame.reference == "run.eels/117"
    assert (entry.frame.number, entry.frame.row, entry.frame.count) == (117, 117, 1)
    whole = ledger.block("run.eels/117")
    assert whole is not None and whole.frame == block(100, 30)
    assert ledger.find("run.eels/130") is None
    assert ledger.find("run.eels/x") is None
    assert ledger.stages(["run.eels/99", "run.eels/200"]) == {
        "run.eels/99": (ReferenceState.CAPTURED, "")
    }


def test_parts_of_blocks_are_returned_in_order(ledger: LedgerWriter):
    ledger.add_frames([block(0, 100), block(100, 100), block(300, 50)])
    parts = [entry.frame for entry in ledger.blocks("run.eels", range(50, 310))]
    assert [(f.reference, f.count) for f in parts] == [
        ("run.eels/50", 50), ("run.eels/100", 100), ("run.eels/300", 10)
    ]  # fmt: skip


def test_a_block_counts_as_all_its_frames_and_is_catalogued_as_a_whole(ledger: LedgerWriter):
    ledger.add_frames([block(0, 100), block(100, 30)])
    assert ledger.counts()[ReferenceState.CAPTURED] == ledger.waiting_at(FRAME.server) == 130
    ledger.mark_stored([replace(block(0, 100), checksum=7, ended=3.0)])
    entry = ledger.find("run.eels/0")
    assert entry is not None and (entry.frame.checksum, entry.frame.ended) == (7, 3.0)
    ledger.mark_blocks_catalogued("run.eels", 99)
    assert ledger.counts()[ReferenceState.CATALOGUED] == 0
    ledger.mark_blocks_catalogued("run.eels", 130)
    assert (
        ledger.counts()[ReferenceState.CATALOGUED],
        ledger.counts()[ReferenceState.CAPTURED],
    ) == (100, 30)


def test_a_ledger_with_older_tables_is_renamed_and_created_again(tmp_path: Path):
    path = tmp_path / "ledger.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as old, old:
        old.execute("CREATE TABLE frame (reference TEXT PRIMARY KEY)")
    ledger = LedgerWriter(path)
    ledger.add_frames([FRAME])
    ledger.close()
    again = LedgerWriter(path)
    assert again.find(FRAME.reference) is not None
    again.close()
    assert (tmp_path / "ledger.sqlite.0").exists()


def test_retried_frames_are_captured_again_but_not_those_in_no_event(ledger: LedgerWriter):
    ledger.add_frames([frame(0), frame(1), replace(frame(2), path="")])
    for number in range(3):
        ledger.mark_failed(f"run.eels/{number}", "server unreachable")
    assert ledger.failed_in_events("run") == (2, "run.eels/1: server unreachable")
    assert ledger.newest_failures(1) == ["run.eels/2: server unreachable"]
    ledger.retry("run", ["run.eels/1", "run.eels/2"])
    ledger.retry("another run")
    assert ledger.counts()[ReferenceState.CAPTURED] == 1
    ledger.retry("run")
    assert ledger.counts() == {
        **dict.fromkeys(ReferenceState, 0),
        ReferenceState.CAPTURED: 2,
        ReferenceState.FAILED: 1,
    }


def test_only_frames_that_still_wait_are_given_up(ledger: LedgerWriter):
    ledger.add_frames([frame(number) for number in range(3)])
    ledger.mark_stored([frame(0)])
    ledger.give_up("run", "the server is gone", ["run.eels/1"])
    assert ledger.waiting_at(FRAME.server) == 1
    ledger.give_up("run", "the server is gone")
    assert ledger.counts()[ReferenceState.STORED] == 1
    assert ledger.failed_in_events("run") == (2, "run.eels/2: the server is gone")


def test_a_spool_may_release_what_is_in_a_file_or_in_no_event(ledger: LedgerWriter):
    ledger.add_frames([frame(0), frame(1), replace(frame(2), path="")])
    ledger.mark_stored([frame(0)])
    assert ledger.releasable([f"run.eels/{n}" for n in range(4)]) == ["run.eels/0", "run.eels/2"]


def test_changes_of_frames_and_runs_are_counted_and_heartbeats_are_not(tmp_path: Path):
    ledger = LedgerWriter(tmp_path / "ledger.sqlite")
    ledger.add_run("run")
    ledger.complete_run("run")
    before = ledger.changes
    ledger.write_heartbeat("")
    assert ledger.changes == before == 2
    ledger.close()


def test_structures_of_files_are_kept_until_their_run_is_complete(ledger: LedgerWriter) -> None:
    run, other = (KeptStructure(path=f"{r}.h5", run=r, structure=b"\0new") for r in ("run", "more"))
    ledger.keep_structure(replace(run, structure=b"old"))
    ledger.keep_structure(other)
    ledger.add_frames([frame(0)])
    ledger.mark_stored([frame(0)], [run])
    assert ledger.structure("run.h5") == ledger.structure("more.h5") == b"\0new"
    assert ledger.stages(["run.eels/0"]) == {"run.eels/0": (ReferenceState.STORED, "")}
    ledger.complete_run("run")
    assert (ledger.structure("run.h5"), ledger.structure("more.h5")) == (None, b"\0new")
    ledger.forget_structure("more.h5")
    assert ledger.structure("more.h5") is None


def test_a_ledger_remembers_the_catalog_and_which_run_was_completed_last(tmp_path: Path):
    path = tmp_path / "ledger.sqlite"
    ledger = LedgerWriter(path)
    assert ledger.catalog() == KnownCatalog() and ledger.last_completed() is None
    for run in ["a", "b", "a"]:
        ledger.add_run(run)
        ledger.complete_run(run)
    known = KnownCatalog(identity="1", start="2", lacks="an older copy")
    ledger.write_catalog(known)
    ledger.close()
    ledger = LedgerWriter(path)
    assert ledger.catalog() == known and ledger.last_completed() == "a"
    ledger.close()


def test_a_frame_whose_stage_is_damaged_is_captured_again_by_the_next_writer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    ledger = LedgerWriter(tmp_path / "ledger.sqlite")
    ledger.add_frames([frame(0), frame(1)])
    ledger.mark_stored([frame(0), frame(1)])
    ledger.add_run("run")
    ledger.complete_run("run")
    ledger.close()
    with contextlib.closing(sqlite3.connect(ledger.path)) as db, db:
        db.execute("UPDATE frame SET stage = 'storex' WHERE number = 1")
    again = LedgerWriter(tmp_path / "ledger.sqlite")
    counts = again.counts()
    assert (counts[ReferenceState.CAPTURED], counts[ReferenceState.STORED]) == (1, 1)
    assert again.is_complete("run") is False
    assert "the stage of run.eels/1 is damaged" in caplog.text
    again.close()
