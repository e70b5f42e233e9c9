"""The activity of a thread of the writer is described without stopping the writer."""

import gc
import sys

import pytest

from bluesky_em.storage.activity import Activity


@pytest.mark.parametrize("collects", [True, False])
def test_no_garbage_is_collected_while_the_frames_of_the_threads_are_read(
    monkeypatch: pytest.MonkeyPatch, collects: bool
) -> None:
    """Python 3.11.7 waits for ever for a lock that it holds itself, if there is a collection."""
    read, collecting = sys._current_frames, []

    def frames() -> dict:
        collecting.append(gc.isenabled())
        return read()

    monkeypatch.setattr(sys, "_current_frames", frames)
    activity = Activity("testing")
    activity.progress()
    if not collects:
        gc.disable()
    try:
        assert activity.call == "activity.py: _frames"
        assert collecting == [False] and gc.isenabled() is collects
    finally:
        gc.enable()
