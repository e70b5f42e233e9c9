import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import bluesky.plan_stubs as bps
import pytest
from bluesky.suspenders import SuspendCeil

from bluesky_em.app.session import run_engine
from bluesky_em.detector._spool_fill import SpoolFill
from tests.support.fake_server import PATIENCE, FakeDriver, calling, served


@pytest.fixture
def uri(tmp_path: Path) -> Iterator[str]:
    with served(FakeDriver(), tmp_path / "spool", spool_limit=40) as uri:
        yield uri


@pytest.fixture
def spool_fill(uri: str) -> Iterator[SpoolFill]:
    signal = SpoolFill(uri)
    yield signal
    signal.destroy()


def expose(uri: str, number: int) -> None:
    with calling(uri) as client:
        client.call("expose", f"run.eels/{number}", "eels", {})


def release_all(uri: str) -> None:
    with calling(uri) as client:
        client.call("release", client.call("references"))


def test_the_fill_level_follows_the_spool(spool_fill: SpoolFill, uri: str) -> None:
    levels: queue.Queue[float] = queue.Queue()
    spool_fill.subscribe(lambda value, **_: levels.put(value))
    assert levels.get(timeout=PATIENCE) == 0.0
    expose(uri, 0)
    while (level := levels.get(timeout=PATIENCE)) == 0.0:
        pass
    assert level == 0.4


def test_blueskys_suspender_holds_a_plan_while_the_spool_is_full(
    uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2):
        expose(uri, number)
    spool_fill = SpoolFill(uri)
    full = threading.Event()
    spool_fill.subscribe(lambda value, **_: full.set() if value > 0.5 else None)
    assert full.wait(PATIENCE)
    suspender = SuspendCeil(spool_fill, 0.5, resume_thresh=0.3)
    with run_engine() as RE:  # noqa: N806 (its name everywhere)
        RE.install_suspender(suspender)
        empty = threading.Timer(0.2, release_all, [uri])
        empty.start()
        RE(bps.null())
        assert spool_fill.get() == 0.0
        empty.join()
        RE.remove_suspender(suspender)
        spool_fill.destroy()
    assert "spool_fill" in capsys.readouterr().out
