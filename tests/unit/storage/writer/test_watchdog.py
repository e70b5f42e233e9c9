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
