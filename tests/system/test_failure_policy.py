"""The reaction of a plan when storage has failed: none, a pause, or an end."""

import time
from collections.abc import Iterator
from pathlib import Path

import bluesky.plan_stubs as bps
import pytest
from bluesky import RunEngine
from bluesky.utils import RunEngineInterrupted
from event_model import compose_run

from bluesky_em import Storage
from bluesky_em.app.session import run_engine
from bluesky_em.errors import StorageFailed
from bluesky_em.storage import failure_monitor
from bluesky_em.storage.failure_policy import OnFailure

NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def engine() -> Iterator[RunEngine]:
    with run_engine() as engine:
        yield engine


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    """Storage whose Tiled server does not answer, which is a failure after 1.5 s."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(failure_monitor, "TROUBLE_TIMEOUT", 1.5)
        with Storage(tmp_path_factory.mktemp("storage"), tiled=NOWHERE) as storage:
            run = compose_run()
            storage("start", run.start_doc)
            storage("stop", run.compose_stop())
            yield storage


def failing(storage: Storage, policy: OnFailure) -> Storage:
    storage._on_failure = policy
    deadline = time.monotonic() + 60
    while "Tiled" not in storage.status().failure:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return storage


def plan(reached: list[str]):
    try:
        yield from bps.null()
        reached.append("before")
        yield from bps.checkpoint()
        reached.append("after")
    finally:
        reached.append("cleaned up")


def test_by_default_a_plan_continues(engine: RunEngine, storage: Storage) -> None:
    reached: list[str] = []
    engine.preprocessors.append(failing(storage, OnFailure.CONTINUE).guard)
    engine(plan(reached))
    assert reached == ["before", "after", "cleaned up"]


def test_a_plan_that_is_to_pause_pauses_at_its_checkpoint_and_can_be_resumed(
    engine: RunEngine, storage: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    reached: list[str] = []
    engine.preprocessors.append(failing(storage, OnFailure.PAUSE).guard)
    with pytest.raises(RunEngineInterrupted):
        engine(plan(reached))
    assert reached == ["before"]
    assert "Paused, since storage has failed: Tiled: " in capsys.readouterr().out
    engine.resume()
    assert reached == ["before", "after", "cleaned up"]


def test_a_plan_that_is_to_abort_ends_at_its_checkpoint_and_cleans_up(
    engine: RunEngine, storage: Storage
) -> None:
    reached: list[str] = []
    engine.preprocessors.append(failing(storage, OnFailure.ABORT).guard)
    with pytest.raises(StorageFailed, match="Tiled: .*What was measured until now is safe"):
        engine(plan(reached))
    assert reached == ["before", "cleaned up"]


def test_a_policy_without_the_guard_is_warned_about(
    engine: RunEngine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Storage(tmp_path, tiled=NOWHERE, on_failure="pause") as storage:
        engine.subscribe(storage)
        engine([*bps.open_run(), *bps.close_run()])
    assert "RE.preprocessors.append(storage.guard) is missing" in caplog.text


def test_an_unknown_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'continue', 'pause' or 'abort', not 'panic'"):
        Storage(tmp_path, on_failure="panic")  # type: ignore
