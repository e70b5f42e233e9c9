import errno
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from bluesky_em.acquisition.client._client import Client
from bluesky_em.acquisition.instrument_pc.protocol import MAX_FETCH
from bluesky_em.acquisition.instrument_pc.server import serve
from bluesky_em.errors import ServerUnreachable
from tests.support.fake_server import PATIENCE, FakeDriver, calling, served


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BLUESKY_EM_TOKEN", raising=False)


@pytest.fixture
def driver() -> FakeDriver:
    return FakeDriver()


@pytest.fixture
def client(driver: FakeDriver, tmp_path: Path):
    with served(driver, tmp_path / "spool") as uri, calling(uri) as client:
        yield client


def test_an_exposed_frame_is_fetched_in_blocks_of_max_fetch(client: Client, driver: FakeDriver):
    driver.array = np.arange(MAX_FETCH // 2, dtype="<f4")
    header = client.call("expose", "run.eels/0", "eels", {"exposure": 0.1})
    assert (header["shape"], header["nbytes"]) == ([MAX_FETCH // 2], 2 * MAX_FETCH)
    assert header["metadata"] == {"exposure": 0.1}
    blocks = [client.call("fetch", "run.eels/0", i * MAX_FETCH, 99 * MAX_FETCH) for i in (0, 1, 2)]
    assert [len(block) for block in blocks] == [MAX_FETCH, MAX_FETCH, 0]
    assert b"".join(blocks) == driver.array.tobytes()


def test_the_header_of_an_exposure_has_a_summary_and_on_request_a_thumbnail(client: Client):
    summary = client.call("expose", "run.eels/0", "eels", {})["summary"]
    assert summary.items() >= {"total": 6.0, "mean": 1.5, "max": 3.0}.items()
    assert "thumbnail" not in summary
    summary = client.call("expose", "run.eels/1", "eels", {}, True)["summary"]
    assert summary["thumbnail"][:4] == [0.0, 1.0, 2.0, 3.0]
    assert "summary" not in client.call("header", "run.eels/1")


def test_a_reference_that_the_spool_holds_is_taken_and_nothing_is_exposed(
    client: Client, driver: FakeDriver
):
    client.call("expose", "run.eels/0", "eels", {})
    driver.array = driver.array + 1
    with pytest.raises(ValueError, match=r"holds a frame 'run\.eels/0' already.*its own name"):
        client.call("expose", "run.eels/0", "eels", {})
    assert driver.calls.count("expose") == 1
    first = client.call("header", "run.eels/0")["checksum"]
    client.call("expose", "run.eels/0", "eels", {}, False, True)  # as after an interruption
    assert client.call("header", "run.eels/0")["checksum"] != first


def test_a_fly_scan_whose_references_the_spool_holds_is_not_armed(client: Client):
    client.call("expose", "run.eels/3", "eels", {})
    order = {"base": "run.eels", "first": 2, "frames": 4, "duration": 0.1, "options": {},
             "scan": None}  # fmt: skip
    with pytest.raises(ValueError, match=r"holds a frame 'run\.eels/3' already"):
        client.call("arm", "eels", order)
    client.call("arm", "eels", {**order, "first": 4})
    client.call("abort")


def test_a_released_frame_cannot_be_fetched_any_more(client: Client):
    client.call("expose", "run.eels/0", "eels", {})
    assert client.call("references") == ["run.eels/0"]
    client.call("release", ["run.eels/0"])
    assert client.call("references") == []
    with pytest.raises(LookupError, match=r"'run\.eels/0' is not in the spool"):
        client.call("fetch", "run.eels/0", 0, 10)


def test_the_status_reports_how_full_the_spool_is(client: Client):
    assert client.call("status").items() >= {"exposing": False, "frames": 0, "bytes": 0}.items()
    client.call("expose", "run.eels/0", "eels", {})
    status = client.call("status")
    assert status.items() >= {"frames": 1, "bytes": 16}.items()
    assert status["capacity"] > 16


def test_the_status_reports_the_servers_clock(client: Client):
    before = time.time()
    assert before <= client.call("status")["time"] <= time.time()


def test_the_status_reports_a_running_exposure(client: Client, driver: FakeDriver):
    driver.block.set()
    exposing = threading.Thread(target=_expose_until_aborted, args=(client.uri,))
    exposing.start()
    assert driver.exposing.wait(PATIENCE)
    assert client.call("status")["exposing"] is True
    client.call("abort")
    exposing.join(PATIENCE)
    assert client.call("status").items() >= {"exposing": False, "frames": 0, "bytes": 0}.items()


def _expose_until_aborted(uri: str) -> None:
    with calling(uri) as client, pytest.raises(RuntimeError, match="aborted"):
        client.call("expose", "run.eels/0", "eels", {})


def test_settings_are_read_set_and_read_back(client: Client):
    assert client.call("get", "energy_offset") == 0.0
    assert client.call("set", "energy_offset", 532.14) == 532.1
    assert client.call("get", "energy_offset") == 532.1


def test_limits_are_read_like_settings(client: Client):
    assert client.call("get", "energy_offset.low") == -200.0
    assert client.call("get", "energy_offset.high") == 3000.0


def test_layout_and_identity_come_from_the_driver(client: Client):
    assert client.call("layout", "eels", {}) == [[4], "<f4"]
    assert client.call("identity")["name"] == "fake"


def test_frames_are_still_there_after_a_restart(tmp_path: Path):
    with served(FakeDriver(), tmp_path) as uri, calling(uri) as client:
        client.call("expose", "run.eels/0", "eels", {})
    with served(FakeDriver(), tmp_path) as uri, calling(uri) as client:
        assert client.call("fetch", "run.eels/0", 0, 99) == np.arange(4, dtype="<f4").tobytes()


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


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Pyro's socket
def test_an_address_that_is_not_this_computers_is_refused_with_advice(
    driver: FakeDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("BLUESKY_EM_TOKEN", "sesame")
    for host in ("no-such-pc.invalid", "192.0.2.1"):
        with pytest.raises(OSError, match=f"cannot listen on {host}:0 .*an address of this comput"):
            serve(driver, "eels_server", host, 0, str(tmp_path / "spool"))


def test_with_a_token_it_serves_beyond_loopback(
    driver: FakeDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("BLUESKY_EM_TOKEN", "sesame")
    with served(driver, tmp_path, host="0.0.0.0") as uri:
        local = uri.replace("0.0.0.0", "127.0.0.1")
        with calling(local, token="sesame") as client:
            assert client.call("identity")["name"] == "fake"


def test_the_right_token_comes_from_the_environment(
    driver: FakeDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("BLUESKY_EM_TOKEN", "sésame")
    with served(driver, tmp_path) as uri, calling(uri) as client:
        assert client.call("get", "aperture") == "5 mm"


def test_a_server_without_a_token_asks_for_none(driver: FakeDriver, tmp_path: Path):
    with served(driver, tmp_path) as uri, calling(uri, token="needless") as client:
        assert client.call("identity")["name"] == "fake"


@pytest.mark.parametrize("token", ["", "wrong", "sesame "])
def test_a_wrong_token_gives_no_access_and_the_refusal_says_what_to_set(
    token: str, driver: FakeDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("BLUESKY_EM_TOKEN", "sesame")
    with served(driver, tmp_path) as uri, calling(uri, token=token) as client:
        with pytest.raises(ServerUnreachable, match="wants a token: set BLUESKY_EM_TOKEN"):
            client.call("expose", "run.eels/0", "eels", {})
        assert driver.calls == []


def test_a_full_spool_refuses_a_client_with_errno_and_words(driver: FakeDriver, tmp_path: Path):
    with served(driver, tmp_path, spool_limit=20) as uri, calling(uri) as client:
        client.call("expose", "run.eels/0", "eels", {})
        with pytest.raises(OSError, match="full: 16 bytes of 20 bytes in 1 frames") as refused:
            client.call("expose", "run.eels/1", "eels", {})
        assert refused.value.errno == errno.ENOSPC
        assert driver.calls.count("expose") == 1


def test_a_frame_whose_spool_is_missing_waits_in_memory_until_it_is_back(
    client: Client, driver: FakeDriver, tmp_path: Path
):
    spool, unplugged = tmp_path / "spool", tmp_path / "unplugged"
    driver.meanwhile = lambda: spool.rename(unplugged)
    with pytest.raises(OSError, match=r"'run\.eels/0' cannot be written .* in memory") as failed:
        client.call("expose", "run.eels/0", "eels", {})
    assert failed.value.errno == errno.EIO
    with pytest.raises(OSError, match="cannot be written"):
        client.call("keep", "run.eels/0")
    unplugged.rename(spool)
    assert client.call("keep", "run.eels/0")["nbytes"] == 16
    assert client.call("fetch", "run.eels/0", 0, 99) == driver.array.tobytes()
    with pytest.raises(LookupError, match="does not wait to be written"):
        client.call("keep", "run.eels/0")
    assert driver.calls.count("expose") == 1
