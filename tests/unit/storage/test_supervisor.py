import logging
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import pytest

from bluesky_em.files.layout import Layout
from bluesky_em.storage import processes, supervisor
from bluesky_em.storage.processes import BUSY, USELESS
from bluesky_em.storage.supervisor import ChildProcess, Supervisor

TILED = "http://tiled.example"


class Clock:
    """A clock that is set by the test, in s."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class FakeProcess:
    """A process that ends when the test says so."""

    stdin = None
    pid = 4711

    def __init__(self, code: int | None = None):
        self.returncode = code

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float) -> int | None:
        if self.returncode is None:
            raise subprocess.TimeoutExpired("fake", timeout)
        return self.returncode


class Spawner:
    """Stands for `processes.spawn`: starts nothing, and notes what it was asked to start."""

    def __init__(self) -> None:
        self.commands: list[tuple[Any, ...]] = []
        self.codes: list[int | None] = []
        """exit codes of the processes to come; None, or none left: it runs"""
        self.error: OSError | None = None

    def __call__(self, *command: Any) -> FakeProcess:
        self.commands.append(command)
        if self.error is not None:
            raise self.error
        return FakeProcess(self.codes.pop(0) if self.codes else None)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def spawner(monkeypatch: pytest.MonkeyPatch) -> Spawner:
    spawner = Spawner()
    monkeypatch.setattr(processes, "spawn", spawner)
    return spawner


def child_in(folder: Path, clock: Clock, **environment: str) -> ChildProcess:
    return ChildProcess(
        "writer", "child", [], lock=folder / "lock", log=folder / "log",
        environment={"PYTHONPATH": str(folder), **environment}, clock=clock,
    )  # fmt: skip


@pytest.fixture
def child(tmp_path: Path, clock: Clock) -> ChildProcess:
    return child_in(tmp_path, clock)


def pauses_after(child: ChildProcess, clock: Clock, spawner: Spawner, codes: list[int]) -> list:
    """Start processes that end at once with these codes; the s until each next start."""
    spawner.codes = [*codes]
    child.check()
    pauses = []
    for _ in codes:
        ended, count = clock.now, len(spawner.commands)
        while len(spawner.commands) == count:
            child.check()
            clock.now += 0.25
        pauses.append(clock.now - 0.25 - ended)
    return pauses


def test_pauses_double_up_to_half_a_minute_and_it_never_gives_up(
    child: ChildProcess, clock: Clock, spawner: Spawner
) -> None:
    pauses = pauses_after(child, clock, spawner, [1] * 9)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_after_a_minute_of_work_the_pauses_begin_with_the_first_again(
    child: ChildProcess, clock: Clock, spawner: Spawner
) -> None:
    assert pauses_after(child, clock, spawner, [1] * 3)[-1] == 2.0
    clock.now += 61.0
    running = child._process
    assert isinstance(running, FakeProcess)
    running.returncode = 1
    child.check()
    clock.now += 0.5
    child.check()
    assert child.state == "running"


def test_a_process_whose_work_another_one_does_is_no_failure(
    child: ChildProcess, clock: Clock, spawner: Spawner, caplog: pytest.LogCaptureFixture
) -> None:
    assert pauses_after(child, clock, spawner, [BUSY] * 4) == [0.5] * 4
    assert caplog.messages == []


def test_while_another_process_holds_the_lock_none_is_started(
    child: ChildProcess, tmp_path: Path, spawner: Spawner
) -> None:
    with filelock.FileLock(tmp_path / "lock"):
        child.check()
        assert child.state == "running, started by another process" and child.pid is None
    assert spawner.commands == []
    child.check()
    assert child.state == "running"


def test_a_process_that_cannot_be_started_is_tried_again_with_the_same_pauses(
    child: ChildProcess, clock: Clock, spawner: Spawner, caplog: pytest.LogCaptureFixture
) -> None:
    spawner.error = OSError(12, "Cannot allocate memory")
    child.check()
    child.check()
    assert len(spawner.commands) == len(caplog.messages) == 1
    assert (
        "the writer could not be started: [Errno 12] Cannot allocate memory. It is" in caplog.text
    )
    clock.now, spawner.error = 0.5, None
    child.check()
    assert child.state == "running"


def test_a_log_that_cannot_be_opened_is_logged_once_and_is_in_the_state(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "log").mkdir()
    child = child_in(tmp_path, clock)
    for _ in range(3):
        child.check()
        clock.now += 60.0
    reason = f"its log {tmp_path / 'log'} is a folder: rename or remove that folder"
    assert caplog.messages == [
        f"the writer could not be started: {reason}. It is tried again, nothing is lost"
    ]
    assert child.state == f"could not be started, and is tried again: {reason}"


def test_once_its_log_can_be_opened_the_process_is_started(
    child: ChildProcess, clock: Clock, spawner: Spawner
) -> None:
    spawner.error = OSError("its log is a folder")
    child.check()
    clock.now, spawner.error = 0.5, None
    child.check()
    assert child.state == "running"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


@pytest.fixture
def supervised(layout: Layout, spawner: Spawner) -> Iterator[Supervisor]:
    supervised = Supervisor(layout, tiled=TILED, api_key="secret")
    yield supervised
    supervised.close()


def test_the_key_of_a_tiled_server_is_on_no_command_line(
    supervised: Supervisor, layout: Layout, spawner: Spawner
) -> None:
    supervised.close()
    assert spawner.commands == [
        (
            "bluesky_em.storage.writer", [str(layout.root), TILED], layout.writer_log,
            {"TILED_API_KEY": "secret"},
        )
    ]  # fmt: skip


def test_a_tiled_server_of_ones_own_is_not_started_here(supervised: Supervisor) -> None:
    assert supervised.state("Tiled server") == "not started here"
    assert supervised.pid("Tiled server") is None


def test_without_an_address_a_tiled_server_is_started_too(layout: Layout, spawner: Spawner) -> None:
    supervised = Supervisor(layout, tiled=None, api_key=None)
    supervised.close()
    modules = [command[0] for command in spawner.commands]
    assert modules == ["bluesky_em.storage.writer", "bluesky_em.storage.tiled_server"]
    assert supervised.state("writer") == supervised.state("Tiled server") == "running"


def test_closing_and_waiting_raises_when_a_process_does_not_end(
    supervised: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "SHUTDOWN_TIMEOUT", 0.0)
    with pytest.raises(subprocess.TimeoutExpired):
        supervised.close(wait=True)


def test_one_process_that_cannot_be_started_does_not_keep_the_other_from_it(
    layout: Layout, spawner: Spawner, caplog: pytest.LogCaptureFixture
) -> None:
    spawner.error = OSError("no memory")
    Supervisor(layout, tiled=None, api_key=None).close()
    assert len(spawner.commands) == 2
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def test_a_process_that_would_fail_again_is_not_started_again_and_says_why(
    child: ChildProcess, tmp_path: Path, clock: Clock, spawner: Spawner,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    (tmp_path / "log").write_text("Tiled version 0\ninstall a newer tiled\n\n")
    spawner.codes = [USELESS]
    child.check()
    for _ in range(3):
        child.check()
        clock.now += 600.0
    assert len(spawner.commands) == 1
    assert child.state.startswith("ended, and is not started again: install a newer tiled. See ")
    assert "is not started again: install a newer tiled" in caplog.text


def test_the_state_has_the_number_of_failures_and_the_last_line_of_the_log(
    child: ChildProcess, tmp_path: Path, clock: Clock, spawner: Spawner
) -> None:
    (tmp_path / "log").write_text("Traceback\nOSError: disk is away\n")
    spawner.codes = [1, 1, 1]
    child.check()
    for _ in range(2):
        child.check()
        clock.now += 1.0
        child.check()
    child.check()
    assert "died 3 times, will be started again: exit code 1, OSError: disk" in child.state
