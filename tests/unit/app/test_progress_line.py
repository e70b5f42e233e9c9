"""The line that shows the progress of plans where there is no terminal."""

from collections.abc import Callable
from typing import Any

import pytest

from bluesky_em.app.progress_line import ProgressLine


class Status:
    """A status that is not done, and can be watched."""

    done = False

    def watch(self, watcher: Callable[..., Any]) -> None:
        self.tell = watcher


def test_the_slowest_of_several_is_shown_and_the_end_is_complete(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fast, slow = Status(), Status()
    line = ProgressLine([fast, slow])
    slow.tell(name="eels", current=10, initial=0, target=100)
    fast.tell(name="beam", current=90, initial=0, target=100)
    slow.tell(name="eels", current=40, initial=0, target=100)
    line.clear()
    shown = [each for each in capsys.readouterr().out.split("\r") if each.strip()]
    assert [each.partition("|")[0] for each in shown if "40%" in each] == ["eels:  40%"]
    assert "eels: 100%" in shown[-1] and not any("90%" in each for each in shown)


def test_statuses_without_a_position_show_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    status = Status()
    line = ProgressLine([status, object()])
    status.tell(name="eels")
    line.clear()
    assert capsys.readouterr().out == ""


def test_many_small_steps_are_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    status = Status()
    line = ProgressLine([status])
    for current in range(1001):
        status.tell(name="eels", current=current, initial=0, target=1000)
    line.clear()
    assert capsys.readouterr().out.count("eels") <= 25
