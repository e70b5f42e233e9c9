"""The reaction of a plan when storage has failed: none, a pause, or an end."""

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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
from tests.support.fake_server import FakeDriver, calling, served

PATIENCE = 120.0  # seconds
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def engine() -> Iterator[RunEngine]:
    with run_engine() as engine:
        yield engine


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    """Storage with a frame whose server does not answer, which is a failure after 1.5 s."""
    with pytest.MonkeyPatch.context() as patch:
        with Storage(tmp_path_factory.mktemp("storage"), tiled=NOWHERE) as storage:
            until(lambda: storage.status().activity == "idle", storage)
            patch.setattr(failure_monitor, "TROUBLE_TIMEOUT", 1.5)
            an_open_run_with_a_frame(storage, "PYRO:eels_server@127.0.0.1:1", {"checksum": 0})
            yield storage


def an_open_run_with_a_frame(
    storage: Storage, server: str, facts: dict[str, Any], uid: str | None = None
) -> None:
    """Append documents of an open run whose frame 0 of `eels` is in that server's spool."""
    axis = {"name": "energy", "units": "eV", "offset": 0.0, "scale": 1.0, "size": 4}
    run = compose_run(uid=uid)
    reference = f"{run.start_doc['uid']}.eels/0"
    key = {"source": "sim", "dtype": "array", "shape": [4], "external": "FILESTORE:"}
    stream = run.compose_descriptor(name="primary", data_keys={"eels": key})
    resource = {
        "uid": "a resource", "run_start": run.start_doc["uid"], "spec": "HDF5",
        "root": str(storage.layout.root), "resource_path": "eels.h5", "path_semantics": "posix",
        "resource_kwargs": {"server": server, "detector": "eels"},
    }  # fmt: skip
    fields = {"number": 0, "dtype": "<f4", "axes": [axis], "metadata": {}, "ended": 1.0}
    datum = {"datum_id": reference, "resource": "a resource", "datum_kwargs": fields | facts}
    event = stream.compose_event(
        data={"eels": reference}, timestamps={"eels": 1.0}, filled={"eels": False}
    )
    storage("start", run.start_doc)
    storage("descriptor", stream.descriptor_doc)
    storage("resource", resource)
    storage("datum", datum)
    storage("event", event)


def failing(storage: Storage, policy: OnFailure) -> Storage:
    storage._guard.policy = policy
    until(lambda: "to be stored, none of them" in storage.status().failure, storage)
    return storage


def until(condition: Callable[[], object], storage: Storage) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, storage.status()
        time.sleep(0.05)


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
    assert (
        "Paused, since storage has failed: 1 frames of eels wait to be stored"
        in capsys.readouterr().out
    )
    engine.resume()
    assert reached == ["before", "after", "cleaned up"]


def test_a_plan_that_is_to_abort_ends_at_its_checkpoint_and_cleans_up(
    engine: RunEngine, storage: Storage
) -> None:
    reached: list[str] = []
    engine.preprocessors.append(failing(storage, OnFailure.ABORT).guard)
    with pytest.raises(
        StorageFailed, match="wait to be stored.*What was measured until now is safe"
    ):
        engine(plan(reached))
    assert reached == ["before", "cleaned up"]


def test_a_catalog_that_stands_still_is_a_failure_for_those_who_want_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        served(FakeDriver(), tmp_path / "spool") as server,
        calling(server) as client,
        Storage(tmp_path / "storage", tiled=NOWHERE, on_failure_catalog=True) as storage,
    ):
        run = str(uuid.uuid4())
        header = client.call("expose", f"{run}.eels/0", "eels", {})
        an_open_run_with_a_frame(storage, server, {"checksum": header["checksum"]}, run)
        until(lambda: storage.status().stored == 1, storage)
        monkeypatch.setattr(failure_monitor, "TROUBLE_TIMEOUT", 1.5)
        text = "1 frames of eels wait to be catalogued"
        until(lambda: text in storage.status().failure, storage)


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
