import contextlib
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from bluesky_em.files.ledger import Ledger
from bluesky_em.frame import Frame
from bluesky_em.reference import ReferenceState
from tests.support.ledger_frame import FRAME, frame


@pytest.fixture
def ledger(tmp_path: Path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    yield ledger
    ledger.close()


def test_a_frame_is_found_as_it_was_entered(ledger: Ledger):
    ledger.captured([FRAME])
    entry = ledger.find("run/eels/0")
    assert entry is not None
    assert entry.frame == FRAME
    assert (entry.stage, entry.reason) == (ReferenceState.CAPTURED, "")
    assert entry.captured_at > 0
    assert entry.stored_at is None


def test_entering_a_frame_again_changes_nothing(ledger: Ledger):
    ledger.captured([FRAME])
    ledger.stored([FRAME])
    ledger.captured([replace(FRAME, checksum=1), frame(1)])
    entry = ledger.find(FRAME.reference)
    assert entry is not None
    assert (entry.frame.checksum, entry.stage) == (FRAME.checksum, ReferenceState.STORED)
    assert ledger.counts()[ReferenceState.CAPTURED] == 1


def test_a_stage_goes_forward_one_by_one_and_notes_when(ledger: Ledger):
    ledger.captured([FRAME])
    ledger.stored([FRAME])
    ledger.catalogued([FRAME.reference])
    entry = ledger.find(FRAME.reference)
    assert entry is not None
    assert entry.stage is ReferenceState.CATALOGUED
    assert entry.stored_at is not None
    assert entry.catalogued_at is not None
    assert entry.captured_at <= entry.stored_at <= entry.catalogued_at


def test_no_stage_is_skipped(ledger: Ledger):
    ledger.captured([FRAME])
    ledger.catalogued([FRAME.reference])
    assert ledger.stages([FRAME.reference]) == {FRAME.reference: (ReferenceState.CAPTURED, "")}


def test_nothing_goes_backwards_from_catalogued(ledger: Ledger):
    ledger.captured([FRAME])
    ledger.stored([FRAME])
    ledger.catalogued([FRAME.reference])
    before = ledger.find(FRAME.reference)
    ledger.stored([FRAME])
    ledger.failed(FRAME.reference, "too late")
    assert ledger.find(FRAME.reference) == before


def test_what_has_failed_stays_failed_with_its_first_reason(ledger: Ledger):
    ledger.captured([FRAME])
    ledger.failed(FRAME.reference, "died with its server")
    ledger.failed(FRAME.reference, "another")
    ledger.stored([FRAME])
    assert ledger.stages([FRAME.reference]) == {
        FRAME.reference: (ReferenceState.FAILED, "died with its server")
    }


def test_what_is_unknown_is_left_out_and_not_made_by_a_stage(ledger: Ledger):
    ledger.stored([frame(9)])
    ledger.failed("run/eels/9", "no")
    assert ledger.find("run/eels/9") is None
    assert ledger.stages(["run/eels/9"]) == {}


def test_stages_of_more_references_than_a_statement_takes(ledger: Ledger):
    frames = [frame(number) for number in range(1203)]
    ledger.captured(frames)
    ledger.stored(frames[1000:])
    stages = ledger.stages([f.reference for f in frames])
    assert len(stages) == 1203
    assert stages["run/eels/999"] == (ReferenceState.CAPTURED, "")
    assert stages["run/eels/1000"] == (ReferenceState.STORED, "")


def test_counts_name_every_stage(ledger: Ledger):
    assert ledger.counts() == dict.fromkeys(ReferenceState, 0)
    ledger.captured(frame(number) for number in range(4))
    ledger.stored([frame(0), frame(1)])
    ledger.catalogued(["run/eels/0"])
    ledger.failed("run/eels/2", "lost")
    assert ledger.counts() == dict.fromkeys(ReferenceState, 1)


def test_frames_of_a_run_come_in_the_order_of_their_events(ledger: Ledger):
    ledger.captured([frame(2), frame(10)])
    ledger.captured([frame(1), replace(frame(7), reference="other/eels/7", run="other")])
    assert [entry.frame.number for entry in ledger.frames("run")] == [2, 10, 1]


def test_a_run_is_unknown_then_open_then_complete(ledger: Ledger):
    assert ledger.is_complete("run") is None
    ledger.opened("run")
    assert ledger.is_complete("run") is False
    ledger.completed("run")
    ledger.opened("run")
    assert ledger.is_complete("run") is True
    assert ledger.complete_runs() == {"run"}


def test_the_pulse_says_when_and_what_the_trouble_is(ledger: Ledger):
    assert (ledger.pulse().beat, ledger.pulse().trouble) == (0.0, "")
    ledger.beat("disk full")
    first = ledger.pulse()
    ledger.beat("")
    assert first.trouble == "disk full"
    assert ledger.pulse().trouble == ""
    assert ledger.pulse().beat >= first.beat > 0


def test_a_reader_of_a_missing_ledger_knows_nothing_and_makes_no_file(tmp_path: Path):
    reader = Ledger(tmp_path / "ledger.sqlite", read_only=True)
    assert reader.find("run/eels/0") is None
    assert reader.counts() == dict.fromkeys(ReferenceState, 0)
    assert reader.is_complete("run") is None
    assert reader.pulse().beat == 0.0
    assert not list(tmp_path.iterdir())
    reader.close()


def test_a_reader_sees_a_ledger_that_appears_later(tmp_path: Path):
    path = tmp_path / "ledger.sqlite"
    reader = Ledger(path, read_only=True)
    assert reader.frames("run") == []
    path.touch()  # the writer is just making it
    assert reader.frames("run") == []
    writer = Ledger(path)
    writer.captured([FRAME])
    assert [entry.frame for entry in reader.frames("run")] == [FRAME]
    writer.close()
    reader.close()


def test_a_reader_cannot_write(ledger: Ledger):
    reader = Ledger(ledger.path, read_only=True)
    assert reader.counts()[ReferenceState.CAPTURED] == 0
    with pytest.raises(Exception, match="readonly|only the writer"):
        reader.captured([FRAME])
    assert ledger.find(FRAME.reference) is None
    reader.close()


def test_a_reader_in_parallel_with_the_writer_sees_counts_only_rise(ledger: Ledger):
    writing = threading.Thread(
        target=lambda: [ledger.captured([frame(number)]) for number in range(200)]
    )
    reader, seen = Ledger(ledger.path, read_only=True), [0]
    writing.start()
    while seen[-1] < 200:
        seen.append(reader.counts()[ReferenceState.CAPTURED])
    writing.join()
    assert seen == sorted(seen)
    reader.close()


def test_what_was_noted_survives_closing_and_closing_twice_is_harmless(tmp_path: Path):
    for _ in range(2):
        ledger = Ledger(tmp_path / "ledger.sqlite")
        ledger.captured([FRAME])
        ledger.close()
        ledger.close()
    ledger = Ledger(tmp_path / "ledger.sqlite")
    assert ledger.counts()[ReferenceState.CAPTURED] == 1
    ledger.close()


def block(number: int, count: int) -> Frame:
    return replace(frame(number), count=count, checksum=0, ended=0.0)


def test_a_reference_inside_a_block_is_found_by_itself(ledger: Ledger):
    ledger.captured([block(0, 100), block(100, 30)])
    entry = ledger.find("run/eels/117")
    assert entry is not None and entry.frame.reference == "run/eels/117"
    assert (entry.frame.number, entry.frame.row, entry.frame.count) == (117, 117, 1)
    whole = ledger.block("run/eels/117")
    assert whole is not None and whole.frame == block(100, 30)
    assert ledger.find("run/eels/130") is None
    assert ledger.find("run/eels/x") is None
    assert ledger.stages(["run/eels/99", "run/eels/200"]) == {
        "run/eels/99": (ReferenceState.CAPTURED, "")
    }


def test_parts_of_blocks_are_given_in_order(ledger: Ledger):
    ledger.captured([block(0, 100), block(100, 100), block(300, 50)])
    parts = [entry.frame for entry in ledger.blocks("run/eels", range(50, 310))]
    assert [(f.reference, f.count) for f in parts] == [
        ("run/eels/50", 50), ("run/eels/100", 100), ("run/eels/300", 10)
    ]  # fmt: skip


def test_a_block_counts_as_so_many_frames_and_is_catalogued_when_all_of_it_is(ledger: Ledger):
    ledger.captured([block(0, 100), block(100, 30)])
    assert ledger.counts()[ReferenceState.CAPTURED] == ledger.waiting_at(FRAME.server) == 130
    ledger.stored([replace(block(0, 100), checksum=7, ended=3.0)])
    entry = ledger.find("run/eels/0")
    assert entry is not None and (entry.frame.checksum, entry.frame.ended) == (7, 3.0)
    ledger.flown_catalogued("run/eels", 99)
    assert ledger.counts()[ReferenceState.CATALOGUED] == 0
    ledger.flown_catalogued("run/eels", 130)
    assert (
        ledger.counts()[ReferenceState.CATALOGUED],
        ledger.counts()[ReferenceState.CAPTURED],
    ) == (100, 30)


def test_a_ledger_with_older_tables_is_put_aside_and_made_anew(tmp_path: Path):
    path = tmp_path / "ledger.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as old, old:
        old.execute("CREATE TABLE frame (reference TEXT PRIMARY KEY)")
    ledger = Ledger(path)
    ledger.captured([FRAME])
    ledger.close()
    again = Ledger(path)
    assert again.find(FRAME.reference) is not None
    again.close()
    assert (tmp_path / "ledger.sqlite.0").exists()
