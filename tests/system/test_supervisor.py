"""Child processes that end are started again; the pauses are in the unit test of the same name."""

from pathlib import Path

import pytest

from bluesky_em.storage.supervisor import ChildProcess

PATIENCE = 60.0  # seconds
CHILD = """
import os, sys
print("at work", flush=True)
if "EXIT" in os.environ:
    sys.exit(int(os.environ["EXIT"]))
sys.stdin.buffer.read()
"""


class Clock:
    """A clock that is set by the test, in s."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def child_in(folder: Path, clock: Clock, **environment: str) -> ChildProcess:
    return ChildProcess(
        "writer", "child", [], lock=folder / "lock", log=folder / "log",
        environment={"PYTHONPATH": str(folder), **environment}, clock=clock,
    )  # fmt: skip


@pytest.fixture
def real_child(tmp_path: Path) -> Path:
    """A folder with a module that ends at once with code EXIT, or else when its stdin ends."""
    (tmp_path / "child.py").write_text(CHILD)
    return tmp_path


def test_a_process_that_ends_is_started_again_and_the_log_says_why(
    real_child: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    child = child_in(real_child, clock, EXIT="3")
    child.check()
    assert child.state == "running" and child.pid is not None
    child.wait(PATIENCE)
    child.check()
    assert child.pid is None
    again = "died once, will be started again: exit code 3, at work"
    assert child.state == f"{again}. See {real_child / 'log'}"
    assert caplog.messages == [
        "the writer ended (exit code 3); it is started again in 0.5 s, nothing is lost. "
        f"Log: {real_child / 'log'}"
    ]
    child.check()
    assert child.pid is None  # not before its pause is over
    clock.now = 0.5
    child.check()
    assert child.pid is not None
    child.release()
    child.wait(PATIENCE)
    assert (real_child / "log").read_text().split("\n") == ["at work", "at work", ""]


def test_a_released_process_ends_by_itself_and_releasing_it_twice_is_harmless(
    real_child: Path, clock: Clock
) -> None:
    child = child_in(real_child, clock)
    child.check()
    child.release()
    child.release(at_once=True)
    child.wait(PATIENCE)
