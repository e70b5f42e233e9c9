"""A Tiled server that refuses, fails or is slow affects neither the plan nor the files."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from bluesky_em import Data, Storage
from bluesky_em.app.session import Session
from bluesky_em.files.tiled.address import TiledAddress
from bluesky_em.gatan import Spectrometer
from bluesky_em.reference import run_of
from tests.support.tiled_proxy import TiledProxy, proxy_to

PATIENCE = 60.0  # seconds


@pytest.fixture(scope="module")
def proxy(tiled: TiledAddress) -> Iterator[TiledProxy]:
    with proxy_to(tiled.uri) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def storage(session: Session, tiled: TiledAddress, proxy: TiledProxy) -> Iterator[Storage]:
    """Another storage folder, readable by that server, whose feed uses the proxy."""
    folder = session.storage.layout.data / "behind-a-proxy"
    with Storage(folder, tiled=proxy.uri, api_key=tiled.writer_key) as storage:
        session.RE.unsubscribe(session.token)
        token = session.RE.subscribe(storage)
        assert session.pcs is not None
        uri = session.pcs.uris["gatan"]
        eels = Spectrometer(uri, path_provider=storage.path_provider, name="eels")
        asyncio.run_coroutine_threadsafe(eels.connect(), session.RE.loop).result(PATIENCE)
        session.devices["eels"], before = eels, session.devices["eels"]
        yield storage
        session.devices["eels"] = before
        session.RE.unsubscribe(token)
        session.token = session.RE.subscribe(session.storage)
        storage.close(wait=True)


def wait_for_trouble(storage: Storage, words: str) -> str:
    deadline = time.monotonic() + PATIENCE
    while words not in (trouble := storage.status().trouble):
        assert time.monotonic() < deadline, f"expected {words!r} in {trouble!r}"
        time.sleep(0.05)
    return trouble


@pytest.mark.parametrize("status", [401, 413, 500])
def test_while_tiled_refuses_spectra_are_stored_and_later_catalogued(
    session: Session, storage: Storage, proxy: TiledProxy, http: Data, status: int
) -> None:
    storage.data.wait(session.acquire_eels(exposure=0.001))
    proxy.refusal = status
    try:
        reference = session.acquire_eels(exposure=0.001)
        assert storage.data.wait(reference, until="stored").stage == "stored"
        assert "Tiled" in wait_for_trouble(storage, str(status))
        asked = proxy.asked[status]
        for _ in range(5):
            session.acquire_eels(exposure=0.001)
        assert proxy.asked[status] <= asked + 8, "too many requests to a Tiled that refuses"
    finally:
        proxy.refusal = 0
    uid = run_of(reference)
    storage.data.wait(uid, timeout=PATIENCE)
    assert http.open(reference).read().shape == (2048,)
    assert list(http.catalog[uid]["primary"].base["internal"].read()["seq_num"]) == [1]
    storage.flush(PATIENCE)
    assert "Tiled" not in storage.status().trouble or wait_until_calm(storage)


def wait_until_calm(storage: Storage) -> bool:
    deadline = time.monotonic() + PATIENCE
    while storage.status().trouble:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return True


def test_a_slow_tiled_does_not_slow_a_plan(
    session: Session, storage: Storage, proxy: TiledProxy
) -> None:
    storage.data.wait(session.acquire_eels(exposure=0.001))
    proxy.delay = 0.3
    try:
        plan = session.plans["spectrum"](session.devices["eels"], exposure=0.001, num=20)
        references = session.RE(plan).plan_result
        storage.data.wait(references, until="stored")
        assert storage.status().catalogued < storage.status().catalogued + storage.status().stored
    finally:
        proxy.delay = 0.0
    storage.data.wait(references, timeout=PATIENCE)
