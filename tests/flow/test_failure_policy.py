"""What a plan does when storage has failed for good: nothing, a pause, or an end."""

from collections.abc import Iterator
from pathlib import Path

import bluesky.plan_stubs as bps
import pytest
from bluesky import RunEngine
from bluesky.utils import RunEngineInterrupted

from bluesky_em import Storage, health
from bluesky_em.errors import StorageFailed
from bluesky_em.session import _stop_loop
from bluesky_em.storage import OnFailure

NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def engine() -> Iterator[RunEngine]:
    engine = RunEngine()
    yield engine
    _stop_loop(engine)


@pytest.fixture
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Tiled server that does not answer is a failure at once."""
    monkeypatch.setattr(health, "LASTING", 0.0)


def failing(folder: Path, policy: OnFailure) -> Storage:
    storage = Storage(folder, tiled=NOWHERE, on_failure=policy)
    while not storage.status().failure:
        pass
    return storage


def plan(reached: list[str]):
    try:
        yield from bps.null()
        reached.append("before")
        yield from bps.checkpoint()
        reached.append("after")
    finally:
        reached.append("cleaned up")


@pytest.mark.usefixtures("_no_patience")
def test_by_default_a_plan_goes_on(engine: RunEngine, tmp_path: Path) -> None:
    reached: list[str] = []
    with failing(tmp_path, "continue") as storage:
        engine.preprocessors.append(storage.guard)
        engine(plan(reached))
    assert reached == ["before", "after", "cleaned up"]


@pytest.mark.usefixtures("_no_patience")
def test_a_plan_that_is_to_pause_pauses_at_its_checkpoint_and_can_be_resumed(
    engine: RunEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reached: list[str] = []
    with failing(tmp_path, "pause") as storage:
        engine.preprocessors.append(storage.guard)
        with pytest.raises(RunEngineInterrupted):
            engine(plan(reached))
        assert reached == ["before"]
        assert "Paused, since storage has failed: " in capsys.readouterr().out
        engine.resume()
    assert reached == ["before", "after", "cleaned up"]


@pytest.mark.usefixtures("_no_patience")
def test_a_plan_that_is_to_abort_ends_at_its_checkpoint_and_cleans_up(
    engine: RunEngine, tmp_path: Path
) -> None:
    reached: list[str] = []
    with failing(tmp_path, "abort") as storage:
        engine.preprocessors.append(storage.guard)
        with pytest.raises(StorageFailed, match="What was taken until now is safe"):
            engine(plan(reached))
    assert reached == ["before", "cleaned up"]


def test_a_policy_that_nobody_guards_is_warned_of(
    engine: RunEngine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Storage(tmp_path, tiled=NOWHERE, on_failure="pause") as storage:
        engine.subscribe(storage)
        engine([*bps.open_run(), *bps.close_run()])
    assert "RE.preprocessors.append(storage.guard) is missing" in caplog.text


def test_an_unknown_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'continue', 'pause' or 'abort', not 'panic'"):
        Storage(tmp_path, on_failure="panic")  # type: ignore
