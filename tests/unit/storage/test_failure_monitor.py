import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bluesky_em.files.ledger import SpoolFill
from bluesky_em.files.ledger_writer import LedgerWriter
from bluesky_em.storage import failure_monitor
from bluesky_em.storage.failure_monitor import FailureMonitor
from bluesky_em.storage.run_frames import HandedOut, RunFrames
from tests.support.ledger_frame import FRAME, frame

PATIENCE = 60.0  # seconds
SERVER = FRAME.server
LOGGER = "bluesky_em.storage.failure_monitor"


class Watched:
    """A monitor of one open run, `run`, and what it looks at."""

    def __init__(self, ledger: LedgerWriter, *, catalog: bool = False):
        self.ledger = ledger
        self.frames = RunFrames()
        self.open_runs = {"run"}
        self.documents = ""
        self.monitor = FailureMonitor(
            ledger, self.frames, lambda: self.open_runs, lambda: self.documents, catalog=catalog
        )

    @property
    def failure(self) -> str:
        return self.monitor.failure

    def hand_out(self, stop: int, *, captured: bool = True) -> None:
        """Hand out the frames 0 to `stop` of `eels`, which the writer has entered if captured."""
        if captured:
            self.ledger.add_frames([frame(number) for number in range(stop)])
        self.frames.add(HandedOut(base="run.eels", run="run", server=SERVER, first=0, stop=stop))

    def looks(self, count: int = 3) -> str:
        """Wait for more looks than one, each after a sign of life of the writer; the failure."""
        for _ in range(count):
            self.ledger.write_heartbeat("")
            seen = self.monitor._writer.heartbeat.time
            until(lambda seen=seen: self.monitor._writer.heartbeat.time != seen)
        return self.failure


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failure_monitor, "CHECK_INTERVAL", 0.01)
    monkeypatch.setattr(failure_monitor, "TROUBLE_TIMEOUT", 1000.0)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[LedgerWriter]:
    ledger = LedgerWriter(tmp_path / "ledger.sqlite")
    ledger.write_heartbeat("")
    yield ledger
    ledger.close()


@pytest.fixture
def watched(ledger: LedgerWriter) -> Iterator[Watched]:
    watched = Watched(ledger)
    yield watched
    watched.monitor.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Trouble of no time at all is too long from now on; a silent writer is not."""

    def begin() -> None:
        monkeypatch.setattr(failure_monitor, "TROUBLE_TIMEOUT", 0.0)
        monkeypatch.setattr(failure_monitor, "CHECK_INTERVAL", 1000.0)

    return begin


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline


def test_a_lost_frame_of_an_open_run_is_a_failure_at_once_and_once(
    watched: Watched, ledger: LedgerWriter, caplog: pytest.LogCaptureFixture
) -> None:
    lost = frame(0)
    watched.hand_out(1)
    ledger.mark_failed(lost.reference, "not in the spool")
    until(lambda: watched.failure)
    expected = f"1 frames failed, the last one: {lost.reference}: not in the spool"
    assert watched.failure == expected
    until(lambda: caplog.record_tuples)
    assert caplog.record_tuples == [(LOGGER, logging.WARNING, f"storage: {expected}")]
    watched.monitor.acknowledge()
    assert watched.looks() == ""


def test_a_lost_frame_of_another_run_is_no_failure(watched: Watched, ledger: LedgerWriter) -> None:
    watched.open_runs = {"another run"}
    ledger.add_frames([frame(0)])
    ledger.mark_failed(frame(0).reference, "long ago")
    assert watched.looks() == ""


def test_frames_that_wait_are_a_failure_only_when_none_is_stored_for_long(
    watched: Watched, ledger: LedgerWriter, impatient: Callable[[], None]
) -> None:
    watched.hand_out(3)
    assert watched.looks() == ""
    ledger.write_heartbeat("the disk is slow")
    impatient()
    until(lambda: "the disk is slow" in watched.failure)
    assert watched.failure.startswith("3 frames of eels wait to be stored, none of them has been")
    ledger.mark_stored([frame(number) for number in range(3)])
    until(lambda: not watched.failure)


def test_frames_that_the_writer_has_not_even_entered_wait_too(
    watched: Watched, impatient: Callable[[], None]
) -> None:
    watched.hand_out(2, captured=False)
    impatient()
    until(lambda: watched.failure.startswith("2 frames of eels wait to be stored"))


def test_the_time_without_progress_begins_again_with_each_frame_that_is_stored(
    ledger: LedgerWriter, tmp_path: Path
) -> None:
    backlog = failure_monitor.Backlog(ledger, failure_monitor.ReferenceState.STORED)
    frames = [HandedOut(base="run.eels", run="run", server=SERVER, first=0, stop=2)]
    ledger.add_frames([frame(0), frame(1)])
    backlog.look(frames, now=0.0)
    assert "2 frames" in backlog.stalled({"run"}, 30.0, timeout=30.0)
    ledger.mark_stored([frame(0)])
    backlog.look(frames, now=40.0)
    assert backlog.stalled({"run"}, 69.0, timeout=30.0) == ""
    assert "1 frames of eels" in backlog.stalled({"run"}, 70.0, timeout=30.0)
    ledger.mark_failed(frame(1).reference, "lost")
    backlog.look(frames, now=71.0)
    assert backlog.stalled({"run"}, 1000.0, timeout=30.0) == ""


def test_trouble_that_concerns_no_frame_of_this_process_is_logged_once_and_no_failure(
    watched: Watched,
    ledger: LedgerWriter,
    impatient: Callable[[], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    watched.hand_out(1)
    ledger.mark_stored([frame(0)])
    watched.looks()
    impatient()
    ledger.write_heartbeat("run 1111 is set aside")
    until(lambda: caplog.record_tuples)
    text = "storage: run 1111 is set aside. No frame of an open run waits for that"
    assert caplog.record_tuples == [(LOGGER, logging.WARNING, text)]
    assert watched.failure == ""


def test_frames_of_a_run_that_has_ended_are_logged_while_they_wait_and_no_failure(
    watched: Watched, impatient: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    watched.hand_out(1)
    watched.looks()
    watched.open_runs = {"another run"}
    watched.looks()
    impatient()
    until(lambda: "1 frames of eels wait to be stored" in caplog.text)
    assert caplog.text.rstrip().endswith("No frame of an open run waits for that")
    assert watched.failure == ""


def test_a_silent_writer_is_no_failure_for_frames_of_a_run_that_has_ended(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    watched.hand_out(1)
    watched.open_runs = set()
    monkeypatch.setattr(failure_monitor, "TROUBLE_TIMEOUT", 0.1)
    until(lambda: "no sign of life" in caplog.text)
    assert watched.failure == ""


def test_a_catalog_that_stands_still_is_a_failure_for_those_who_want_that(
    ledger: LedgerWriter, impatient: Callable[[], None]
) -> None:
    watched = Watched(ledger, catalog=True)
    watched.hand_out(1)
    ledger.mark_stored([frame(0)])
    ledger.write_heartbeat("Tiled: away")
    impatient()
    until(lambda: watched.failure.startswith("1 frames of eels wait to be catalogued"))
    assert watched.failure.endswith("s: Tiled: away")
    ledger.mark_catalogued([frame(0).reference])
    until(lambda: not watched.failure)
    watched.monitor.close()


def test_a_writer_that_gives_no_sign_of_life_is_a_failure_while_frames_wait(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(failure_monitor, "TROUBLE_TIMEOUT", 0.1)
    until(lambda: "no sign of life" in caplog.text)
    assert watched.failure == ""
    watched.hand_out(1, captured=False)
    until(lambda: watched.failure)
    assert watched.failure.startswith("the writer has given no sign of life for")
    assert watched.failure.endswith("and 1 frames wait to be stored")


def test_documents_that_wait_in_memory_for_long_are_a_failure(
    watched: Watched, impatient: Callable[[], None]
) -> None:
    watched.documents = "2 documents wait in memory"
    assert watched.looks() == ""
    impatient()
    until(lambda: watched.failure == "2 documents wait in memory")


def test_a_spool_that_an_open_run_uses_is_a_failure_at_80_percent_and_once(
    watched: Watched, ledger: LedgerWriter
) -> None:
    watched.hand_out(1)
    ledger.write_spool_fill(SpoolFill(server="another", bytes=100, capacity=100))
    ledger.write_spool_fill(SpoolFill(server=SERVER, bytes=79, capacity=100))
    assert watched.looks() == ""
    ledger.write_spool_fill(SpoolFill(server=SERVER, bytes=80, capacity=100))
    until(lambda: watched.failure == f"the spool of {SERVER} is 80% full")
    watched.monitor.acknowledge()
    assert watched.looks() == ""
    ledger.forget_spool_fill(SERVER)
    watched.looks()
    ledger.write_spool_fill(SpoolFill(server=SERVER, bytes=90, capacity=100))
    until(lambda: watched.failure == f"the spool of {SERVER} is 90% full")


def test_a_look_that_fails_is_logged_once_and_the_next_looks_continue(
    watched: Watched,
    ledger: LedgerWriter,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    looks: list[int] = []

    def damaged(*_: object) -> None:
        looks.append(1)
        raise sqlite3.DatabaseError("database disk image is malformed")

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "heartbeat", damaged)
        until(lambda: len(looks) > 3)
        watched.monitor.acknowledge()
    assert caplog.text.count("database disk image is malformed") == 1
    watched.hand_out(1)
    ledger.mark_failed(frame(0).reference, "lost")
    until(lambda: watched.failure.startswith("1 frames failed"))


def test_frames_wait_in_danger_while_the_ledger_cannot_be_read(
    watched: Watched,
    ledger: LedgerWriter,
    monkeypatch: pytest.MonkeyPatch,
    impatient: Callable[[], None],
) -> None:
    def damaged(*_: object) -> int:
        raise sqlite3.DatabaseError("file is not a database")

    monkeypatch.setattr(ledger, "first_before", damaged)
    watched.hand_out(1)
    impatient()
    until(lambda: "ledger.sqlite cannot be read (file is not a database)" in watched.failure)


def test_the_frames_of_a_run_that_has_ended_are_forgotten_once_they_are_stored(
    watched: Watched, ledger: LedgerWriter
) -> None:
    watched.hand_out(1)
    watched.open_runs = set()
    watched.looks()
    assert watched.frames.all()
    ledger.mark_stored([frame(0)])
    until(lambda: not watched.frames.all())


def test_the_monitor_can_be_opened_on_a_ledger_that_cannot_be_read(
    ledger: LedgerWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*_: object) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    monkeypatch.setattr(ledger, "_execute", damaged)
    Watched(ledger).monitor.close()
