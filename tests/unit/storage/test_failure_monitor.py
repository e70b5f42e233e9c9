import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bluesky_em.files.ledger_writer import LedgerWriter
from bluesky_em.storage import failure_monitor
from bluesky_em.storage.failure_monitor import FailureMonitor
from tests.support.ledger_frame import frame

PATIENCE = 60.0  # seconds


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
def watched(ledger: LedgerWriter) -> Iterator[FailureMonitor]:
    monitor = FailureMonitor(ledger, lambda: "")
    yield monitor
    monitor.close()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline


def test_a_lost_frame_is_a_failure_at_once_and_once(
    watched: FailureMonitor, ledger: LedgerWriter, caplog: pytest.LogCaptureFixture
) -> None:
    lost = frame(0)
    ledger.add_frames([lost])
    ledger.mark_failed(lost.reference, "not in the spool")
    until(lambda: watched.failure)
    expected = f"1 frames failed, the last one: {lost.reference}: not in the spool"
    assert watched.failure == expected
    assert caplog.record_tuples == [
        ("bluesky_em.storage.failure_monitor", logging.WARNING, f"storage: {expected}")
    ]
    watched.acknowledge()
    assert watched._check() == ""


def test_trouble_is_a_failure_only_when_it_lasts(
    watched: FailureMonitor, ledger: LedgerWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.write_heartbeat("Tiled: away")
    assert watched._check() == ""
    monkeypatch.setattr(failure_monitor, "TROUBLE_TIMEOUT", 0.0)
    assert watched._check() == "Tiled: away"
    ledger.write_heartbeat("")
    assert watched._check() == ""


def test_a_writer_that_gives_no_sign_of_life_is_a_failure(
    watched: FailureMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failure_monitor, "TROUBLE_TIMEOUT", 0.1)
    until(lambda: watched.failure)
    assert watched.failure.startswith("the writer has given no sign of life for")


def test_what_failed_in_earlier_sessions_is_no_failure_of_this_one(ledger: LedgerWriter) -> None:
    ledger.add_frames([frame(0)])
    ledger.mark_failed(frame(0).reference, "long ago")
    watched = FailureMonitor(ledger, lambda: "")
    assert watched._check() == ""
    watched.close()
