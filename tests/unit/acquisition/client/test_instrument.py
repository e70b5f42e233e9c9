"""The typed clients: what devices and the writer call, and what a pause does to fly scans."""

import asyncio
import contextlib
import logging
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from bluesky_em.acquisition.client import (
    InstrumentClient,
    SpoolClient,
    _instrument,
    _shared,
    client_for,
    hold_fly_scans,
)
from tests.support.fake_server import PATIENCE, FakeDriver, served, shared_client


async def test_abort_is_answered_while_an_exposure_blocks(tmp_path: Path):
    driver = FakeDriver()
    driver.block.set()
    with served(driver, tmp_path) as uri:
        async with shared_client(uri) as client:
            exposing = asyncio.create_task(client.expose("run.eels/0", "eels", {}))
            assert await asyncio.to_thread(driver.exposing.wait, PATIENCE)
            assert await client.get("aperture") == "5 mm"
            assert not exposing.done()
            await client.abort()
            with pytest.raises(RuntimeError, match="aborted"):
                await exposing


async def test_calls_on_one_channel_come_in_order(tmp_path: Path):
    driver = FakeDriver()
    with served(driver, tmp_path) as uri:
        async with shared_client(uri) as client:
            calls = [client.set("energy_offset", value) for value in range(20)]
            assert await asyncio.gather(*calls) == list(range(20))
            assert await client.get("energy_offset") == 19


def test_devices_on_one_server_share_its_client():
    uri = "PYRO:shared@127.0.0.1:1"
    assert client_for(uri) is client_for(uri)
    assert client_for(uri) is not client_for("PYRO:other@127.0.0.1:1")


async def test_a_frame_is_exposed_described_fetched_and_released(tmp_path: Path):
    driver = FakeDriver()
    with served(driver, tmp_path) as uri:
        async with shared_client(uri) as client:
            assert (await client.identity())["name"] == "fake"
            assert "energy_offset" in await client.settings()
            assert await client.layout("eels", {}) == ([4], "<f4")
            assert await client.preflight("eels", {}) == 16
            header = await client.expose("run.eels/0", "eels", {}, thumbnail=True)
            assert header.get("summary", {})["total"] == 6.0
            with pytest.raises(LookupError, match="does not wait to be written"):
                await client.keep("run.eels/0")
        with contextlib.closing(SpoolClient(uri)) as spool:
            del header["summary"]
            assert spool.references() == ["run.eels/0"]
            assert spool.header("run.eels/0") == header
            assert spool.fetch("run.eels/0", 0, 99) == driver.array.tobytes()
            assert spool.status()["bytes"] == 16
            spool.release(["run.eels/0"])
            assert spool.status()["frames"] == 0


class Recorder(InstrumentClient):
    """A client whose calls are recorded; those that are in `answers` are answered, or raised."""

    def __init__(self, uri: str, **answers: Any):
        super().__init__(uri)
        self.calls: list[str] = []
        self.answers = answers

    async def _call(self, method: str, *args: Any, **options: Any) -> Any:
        self.calls.append(method)
        answer = self.answers.get(method)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> dict[str, InstrumentClient]:
    """The clients of this process."""
    clients: dict[str, InstrumentClient] = {}
    monkeypatch.setattr(_shared, "_clients", clients)
    return clients


async def test_every_server_with_a_fly_scan_is_held_and_no_other(
    registered: dict[str, InstrumentClient],
):
    clients = registered["a"], registered["b"], registered["c"] = (
        Recorder("a"), Recorder("b"), Recorder("c", progress={"done": True}),
    )  # fmt: skip
    await clients[0].kickoff("eels")
    await clients[2].kickoff("eels")
    await clients[2].progress("eels")
    await hold_fly_scans()
    assert [client.calls[-1] for client in (clients[0], clients[2])] == ["hold", "progress"]
    assert clients[1].calls == []


async def test_a_server_that_cannot_be_held_is_logged_and_the_others_are_held(
    registered: dict[str, InstrumentClient], caplog: pytest.LogCaptureFixture
):
    broken, works = Recorder("broken", hold=RuntimeError("no answer")), Recorder("works")
    registered.update(broken=broken, works=works)
    for client in (broken, works):
        await client.kickoff("eels")
    with caplog.at_level(logging.ERROR):
        await hold_fly_scans()
    assert works.calls[-1] == "hold"
    assert "the fly scan of broken continues in the pause: no answer" in caplog.text


async def test_servers_that_do_not_answer_delay_a_pause_no_longer_than_one(
    registered: dict[str, InstrumentClient],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    monkeypatch.setattr(_instrument, "HOLD_TIMEOUT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for n in range(20):
            uri = f"PYRO:server_{n}@127.0.0.1:{silent.getsockname()[1]}"
            registered[uri] = InstrumentClient(uri)
            registered[uri]._flying.add("eels")
        began = time.monotonic()
        await hold_fly_scans()
        assert time.monotonic() - began < 10 * _instrument.HOLD_TIMEOUT  # one after the other: 20
    assert caplog.text.count("continues in the pause") == 20
    for client in registered.values():
        client.close()


async def test_a_held_fly_scan_resumes_when_the_plan_continues_or_a_second_after(
    monkeypatch: pytest.MonkeyPatch,
):
    client = Recorder("server")
    await client.kickoff("eels")
    await client.hold()
    await client.resume_if_held()
    await client.resume_if_due()
    assert client.calls == ["kickoff", "hold"]  # the plan is still paused
    client.resume_soon()
    await client.resume_if_due()
    assert client.calls == ["kickoff", "hold"]  # other devices may still be resuming
    await client.resume_if_held()
    assert client.calls == ["kickoff", "hold", "resume"]
    monkeypatch.setattr(_instrument, "RESUME_DELAY", -1.0)
    await client.hold()
    client.resume_soon()
    await client.resume_if_due()
    await client.resume_if_due()
    assert client.calls[3:] == ["hold", "resume"]


async def test_a_second_pause_soon_after_a_resume_still_holds():
    client = Recorder("server")
    await client.kickoff("eels")
    await client.hold()
    client.resume_soon()
    await client.hold()
    await client.resume_if_held()
    assert client.calls == ["kickoff", "hold", "hold"]


async def test_a_fly_scan_that_was_refused_or_aborted_is_not_held():
    client = Recorder("server", kickoff=RuntimeError("not armed"))
    with pytest.raises(RuntimeError, match="not armed"):
        await client.kickoff("eels")
    await client.hold()
    client.answers.clear()
    await client.kickoff("eels")
    await client.abort()
    await client.hold()
    assert client.calls == ["kickoff", "kickoff", "abort"]
