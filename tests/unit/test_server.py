import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bluesky_em.errors import ServerUnreachable
from bluesky_em.exposure import Exposure
from bluesky_em.link import Line
from bluesky_em.server import MAX_FETCH, serve

PATIENCE = 10.0  # seconds a test waits for what must come at once
LIMITS = [-200.0, 3000.0]


class FakeDriver:
    """A driver of no instrument: exposes `array`, holds settings in a dict.

    Attributes:
        block: while set, an exposure lasts until `abort`.
        exposing: set while an exposure that was told to block lasts.
    """

    def __init__(self) -> None:
        self.array = np.arange(4, dtype="<f4")
        self.values: dict[str, Any] = {"energy_offset": 0.0, "aperture": "5 mm"}
        self.calls: list[str] = []
        self.block = threading.Event()
        self.exposing = threading.Event()
        self.aborted = threading.Event()
        self.parked = threading.Event()

    def identity(self) -> dict[str, Any]:
        return {"vendor": "None", "name": "fake"}

    def settings(self) -> dict[str, dict[str, Any]]:
        return {
            "energy_offset": {"units": "eV", "dtype": "float", "writable": True, "limits": LIMITS},
            "aperture": {"units": "", "dtype": "str", "writable": False, "limits": None},
        }

    def get(self, name: str) -> Any:
        return self.values[name]

    def set(self, name: str, value: Any) -> Any:
        if not LIMITS[0] <= value <= LIMITS[1]:
            raise ValueError(f"{name} is {value}; it must be between -200 and 3000")
        self.values[name] = round(value, 1)
        return self.values[name]

    def layout(self, detector: str, options: dict[str, Any]) -> tuple[tuple[int, ...], str]:
        return self.array.shape, self.array.dtype.str

    def expose(self, detector: str, options: dict[str, Any]) -> Exposure:
        self.calls.append("expose")
        started = time.time()
        if self.block.is_set():
            self.aborted.clear()
            self.exposing.set()
            assert self.aborted.wait(PATIENCE), "nobody aborted this exposure"
            self.exposing.clear()
            raise RuntimeError("aborted")
        axes = [
            {"name": f"axis{i}", "units": "eV", "offset": 0.0, "scale": 1.0, "size": size}
            for i, size in enumerate(self.array.shape)
        ]
        return Exposure(self.array.copy(), axes, dict(options), started, time.time())

    def abort(self) -> None:
        self.calls.append("abort")
        self.block.clear()
        self.aborted.set()

    def park(self) -> None:
        self.parked.set()


@contextlib.contextmanager
def served(driver: FakeDriver, spool: Path, *, port: int = 0, host: str = "127.0.0.1"):
    """A real acquisition server in a thread; gives its address."""
    ready, started = threading.Event(), []
    thread = threading.Thread(
        target=serve,
        args=(driver, "eels_server", host, port, str(spool)),
        kwargs={"started": lambda *args: (started.extend(args), ready.set())},
    )
    thread.start()
    assert ready.wait(PATIENCE)
    uri, stop = started
    try:
        yield uri
    finally:
        stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()


@contextlib.contextmanager
def calling(uri: str, token: str | None = None) -> Iterator[Line]:
    line = Line(uri, token=token)
    try:
        yield line
    finally:
        line.close()


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BLUESKY_EM_TOKEN", raising=False)


@pytest.fixture
def driver() -> FakeDriver:
    return FakeDriver()


@pytest.fixture
def line(driver: FakeDriver, tmp_path: Path):
    with served(driver, tmp_path) as uri, calling(uri) as line:
        yield line


def test_an_exposed_frame_is_fetched_in_blocks_of_max_fetch(line: Line, driver: FakeDriver):
    driver.array = np.arange(MAX_FETCH // 2, dtype="<f4")
    header = line.call("expose", "run/eels/0", "eels", {"exposure": 0.1})
    assert (header["shape"], header["nbytes"]) == ([MAX_FETCH // 2], 2 * MAX_FETCH)
    assert header["metadata"] == {"exposure": 0.1}
    blocks = [line.call("fetch", "run/eels/0", i * MAX_FETCH, 99 * MAX_FETCH) for i in (0, 1, 2)]
    assert [len(block) for block in blocks] == [MAX_FETCH, MAX_FETCH, 0]
    assert b"".join(blocks) == driver.array.tobytes()


def test_a_released_frame_cannot_be_fetched_any_more(line: Line):
    line.call("expose", "run/eels/0", "eels", {})
    assert line.call("references") == ["run/eels/0"]
    line.call("release", ["run/eels/0"])
    assert line.call("references") == []
    with pytest.raises(LookupError, match="'run/eels/0' is not in the spool"):
        line.call("fetch", "run/eels/0", 0, 10)


def test_the_status_tells_how_full_the_spool_is(line: Line):
    assert line.call("status") == {"exposing": False, "frames": 0, "bytes": 0}
    line.call("expose", "run/eels/0", "eels", {})
    assert line.call("status") == {"exposing": False, "frames": 1, "bytes": 16}


def test_the_status_tells_of_a_running_exposure(line: Line, driver: FakeDriver):
    driver.block.set()
    exposing = threading.Thread(target=_expose_until_aborted, args=(line.uri,))
    exposing.start()
    assert driver.exposing.wait(PATIENCE)
    assert line.call("status")["exposing"] is True
    line.call("abort")
    exposing.join(PATIENCE)
    assert line.call("status") == {"exposing": False, "frames": 0, "bytes": 0}


def _expose_until_aborted(uri: str) -> None:
    with calling(uri) as line, pytest.raises(RuntimeError, match="aborted"):
        line.call("expose", "run/eels/0", "eels", {})


def test_settings_are_read_set_and_read_back(line: Line):
    assert line.call("get", "energy_offset") == 0.0
    assert line.call("set", "energy_offset", 532.14) == 532.1
    assert line.call("get", "energy_offset") == 532.1


def test_limits_are_read_like_settings(line: Line):
    assert line.call("get", "energy_offset.low") == -200.0
    assert line.call("get", "energy_offset.high") == 3000.0


def test_layout_and_identity_come_from_the_driver(line: Line):
    assert line.call("layout", "eels", {}) == [[4], "<f4"]
    assert line.call("identity")["name"] == "fake"


def test_frames_outlive_their_server(tmp_path: Path):
    with served(FakeDriver(), tmp_path) as uri, calling(uri) as line:
        line.call("expose", "run/eels/0", "eels", {})
    with served(FakeDriver(), tmp_path) as uri, calling(uri) as line:
        assert line.call("fetch", "run/eels/0", 0, 99) == np.arange(4, dtype="<f4").tobytes()


def test_the_instrument_is_parked_when_serving_ends(driver: FakeDriver, tmp_path: Path):
    with served(driver, tmp_path):
        assert not driver.parked.is_set()
    assert driver.parked.is_set()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "gatan-pc", "::"])
def test_beyond_loopback_a_token_is_demanded(host: str, driver: FakeDriver, tmp_path: Path):
    with pytest.raises(PermissionError) as caught:
        serve(driver, "eels_server", host, 0, str(tmp_path / "spool"))
    assert f"refusing to serve eels_server on {host} without a token" in str(caught.value)
    assert "Set BLUESKY_EM_TOKEN here and on the control PC" in str(caught.value)


def test_with_a_token_it_serves_beyond_loopback(
    driver: FakeDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("BLUESKY_EM_TOKEN", "sesame")
    with served(driver, tmp_path, host="0.0.0.0") as uri:
        local = uri.replace("0.0.0.0", "127.0.0.1")
        with calling(local, token="sesame") as line:
            assert line.call("identity")["name"] == "fake"


def test_the_right_token_comes_from_the_environment(
    driver: FakeDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("BLUESKY_EM_TOKEN", "sésame")
    with served(driver, tmp_path) as uri, calling(uri) as line:
        assert line.call("get", "aperture") == "5 mm"


def test_a_server_without_a_token_asks_for_none(driver: FakeDriver, tmp_path: Path):
    with served(driver, tmp_path) as uri, calling(uri, token="needless") as line:
        assert line.call("identity")["name"] == "fake"


@pytest.mark.parametrize("token", ["", "wrong", "sesame "])
def test_a_wrong_token_opens_nothing_and_the_refusal_says_what_to_set(
    token: str, driver: FakeDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("BLUESKY_EM_TOKEN", "sesame")
    with served(driver, tmp_path) as uri, calling(uri, token=token) as line:
        with pytest.raises(ServerUnreachable, match="wants a token: set BLUESKY_EM_TOKEN"):
            line.call("expose", "run/eels/0", "eels", {})
        assert driver.calls == []
