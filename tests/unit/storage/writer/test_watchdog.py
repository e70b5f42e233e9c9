"""A writer that hangs says so."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bluesky_em.storage.activity import Activity
from bluesky_em.storage.writer import _watchdog
from bluesky_em.storage.writer._watchdog import Watchdog

PATIENCE = 30.0  # seconds


@pytest.fixture
def activity() -> Activity:
    return Activity("storing frames of a share")


@pytest.fixture
def watchdog(
    activity: Activity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Watchdog]:
    monkeypatch.setattr(_watchdog, "SILENCE_LIMIT", 0.2)
    watchdog = Watchdog(lambda: [activity], tmp_path / "writer.hang")
    yield watchdog
    watchdog.stop()


def test_an_activity_without_progress_is_reported_with_its_call(
    activity: Activity, watchdog: Watchdog
) -> None:
    assert watchdog.trouble == ""
    activity.progress()
    deadline = time.monotonic() + PATIENCE
    while not watchdog.trouble:
        assert time.monotonic() < deadline
    assert watchdog.trouble.startswith("storing frames of a share: no progress for 0 s, in ")
    activity.progress()
    assert watchdog.trouble == ""


def test_an_activity_at_rest_is_no_trouble(activity: Activity, watchdog: Watchdog) -> None:
    activity.progress()
    activity.rest()
    threading.Event().wait(0.3)
    assert activity.silence == 0.0 and watchdog.trouble == ""


def test_the_call_for_which_the_writer_was_ended_is_forgotten_after_a_while_without_a_hang(
    watchdog: Watchdog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = tmp_path / "writer.hang"
    memory.write_text("storing frames of a share: _write.py: flush")
    watchdog._look()
    assert memory.exists()
    monkeypatch.setattr(_watchdog, "FORGET_TIMEOUT", 0.0)
    watchdog._look()
    assert not memory.exists()


def test_the_call_is_remembered_while_it_hangs_again(
    activity: Activity, watchdog: Watchdog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_watchdog, "SILENCE_LIMIT", -0.5)  # silent at once
    monkeypatch.setattr(_watchdog, "FORGET_TIMEOUT", 0.0)
    memory = tmp_path / "writer.hang"
    memory.write_text("storing frames of a share: _write.py: flush")
    activity.progress()
    watchdog._look()
    assert memory.exists()
