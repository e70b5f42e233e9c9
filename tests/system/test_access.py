"""Access to the embedded Tiled server: garbage, requests without a key, the scopes of each key."""

import contextlib
import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from tiled.client import from_uri

from bluesky_em import Data
from bluesky_em.app.session import Session
from bluesky_em.files.tiled.address import TiledAddress
from bluesky_em.reference import run_of

PATIENCE = 10.0  # seconds
CONTAINER = {"structure_family": "container", "metadata": {}, "data_sources": [], "specs": []}
POST = b"POST /api/v1/metadata/ HTTP/1.1\r\nHost: x\r\n"
GARBAGE = [
    b"",
    b"\0" * 100,
    b"GET",
    b"GET / HTTP/1.1\r\nHost: x\r\n",
    b"GET /api/v1/metadata/ HTTP/9.9\r\n\r\n",
    b"POST /api/v1/metadata/ HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000000\r\n\r\n"
    + b"x" * 5000,
    b"POST /api/v1/metadata/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
    b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: x\r\n" * 5000 + b"\r\n",
    b"GET /api/v1/stream/single/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n\xff\xff\xff",
    b"PYRO\x01\xf6\x01\x04" + b"\xff" * 100,
    bytes.fromhex("160301020001 0001fc0303") + bytes(500),
]


def connect(tiled: TiledAddress) -> socket.socket:
    address = urlsplit(tiled.uri)
    assert address.hostname == "127.0.0.1" and address.port
    return socket.create_connection((address.hostname, address.port), timeout=PATIENCE)


def peak(session: Session) -> int:
    """Peak memory of the server so far, in MB."""
    pid = session.storage.supervisor.pid("Tiled server")
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:  # Linux only
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) >> 10


def test_garbage_as_a_port_scan_sends_it_does_not_stop_tiled(
    session: Session, tiled: TiledAddress
) -> None:
    before, dice = peak(session), random.Random(0)
    scan = [*GARBAGE, *(dice.randbytes(dice.randrange(300)) for _ in range(100))]
    with contextlib.ExitStack() as silent:
        for _ in range(300):
            silent.enter_context(connect(tiled))
        for garbage in scan:
            with connect(tiled) as sock, contextlib.suppress(OSError):
                sock.sendall(garbage)
                if dice.random() < 0.5:  # the others close without reading the answer
                    sock.shutdown(socket.SHUT_WR)
                    while sock.recv(65536):
                        pass
        reader = Data(tiled.uri, api_key=tiled.api_key)
        assert len(reader.catalog) >= 0
        reader.close()
    assert peak(session) - before < 100


def test_a_large_body_without_a_key_is_not_read(session: Session, tiled: TiledAddress) -> None:
    def body() -> Iterator[bytes]:
        for _ in range(200):
            yield bytes(1 << 20)

    before = peak(session)
    for key in ("", "0" * 64):
        with contextlib.suppress(httpx.TransportError):  # rejected before the body was sent
            answer = httpx.post(
                f"{tiled.uri}/api/v1/metadata/", content=body(), timeout=PATIENCE,
                headers={"Authorization": f"Apikey {key}", "Content-Type": "application/json"},
            )  # fmt: skip
            assert answer.status_code == 401
    assert peak(session) - before < 100


@pytest.mark.parametrize("where", ["header", "query", "cookie"])
@pytest.mark.parametrize("key", [None, "secret", "é", "0" * 64], ids=repr)
def test_without_a_key_tiled_shows_nothing(
    key: str | None, where: str, tiled: TiledAddress
) -> None:
    sent = (key or "").encode()
    ways: dict[str, Any] = {
        "header": {"headers": [(b"Authorization", b"Apikey " + sent)]},
        "query": {"params": {"api_key": sent}},
        "cookie": {"headers": [(b"Cookie", b"tiled_api_key=" + sent)]},
    }
    with httpx.Client(base_url=tiled.uri, **ways[where] if key is not None else {}) as client:
        for path in ("metadata/", "search/", "array/full/x", "table/full/x", "metrics"):
            assert client.get(f"/api/v1/{path}").status_code == 401, path
        for method in ("post", "put", "patch", "delete"):
            for path in ("metadata", "register", "array/full", "table/full", "data_source"):
                answer = client.request(method, f"/api/v1/{path}/x", json=CONTAINER)
                assert answer.status_code in (401, 403, 404, 405), (method, path)


@pytest.fixture(scope="module")
def reference(session: Session, tiled: TiledAddress) -> str:
    reference = session.acquire_eels(exposure=0.001)
    session.data.wait(reference)
    return reference


def test_the_readers_key_reads_and_does_nothing_else(tiled: TiledAddress, reference: str) -> None:
    reader, run = Data(tiled.uri, api_key=tiled.api_key), run_of(reference)
    assert reader.open(reference).read().shape == (2048,)
    with pytest.raises(Exception, match="Not enough permissions"):
        reader.catalog.create_container("intruder")
    with pytest.raises(Exception, match="Not enough permissions"):
        reader.catalog[run].update_metadata({"sample": "another"})
    with pytest.raises(Exception, match="Not enough permissions"):
        reader.catalog.delete_contents(run, recursive=True, external_only=False)
    assert reader.open(reference).read().shape == (2048,)
    reader.close()


def test_the_feeds_key_cannot_delete(tiled: TiledAddress, reference: str) -> None:
    client, run = from_uri(tiled.uri, api_key=tiled.writer_key), run_of(reference)
    with pytest.raises(Exception, match="Not enough permissions"):
        client.delete_contents(run, recursive=True)
    with pytest.raises(Exception, match="Not enough permissions"):
        client[run].delete(recursive=True)
    assert run in client
    client.context.close()


def test_keys_are_random_and_only_their_owner_can_read_them(
    session: Session, tiled: TiledAddress
) -> None:
    catalog = session.storage.layout.catalog
    if os.name == "posix":
        assert (catalog / "address.json").stat().st_mode & 0o077 == 0
    keys = [tiled.api_key, tiled.writer_key]
    assert [len(bytes.fromhex(key)) for key in keys] == [32, 32] and len(set(keys)) == 2
    files = [catalog / "server.log", *session.storage.layout.root.glob("*.log")]
    supervisor = session.storage.supervisor
    for pid in (supervisor.pid("Tiled server"), supervisor.pid("writer")):
        files.append(Path(f"/proc/{pid}/cmdline"))  # Linux
    shown = [file.read_text(errors="replace") for file in files if file.exists()]
    assert shown and not any(key in text for key in keys for text in shown)


def test_the_analysts_key_registers_no_files_and_deletes_nothing(
    session: Session, tiled: TiledAddress, reference: str
) -> None:
    run = run_of(reference)
    analyst: Any = from_uri(tiled.uri, api_key=tiled.analyst_key).include_data_sources()
    array = analyst[run]["primary"].base["eels"]
    (source,) = array.data_sources()
    with pytest.raises(Exception, match="Not enough permissions"):
        analyst.new(array.structure_family, [source], key="intruder")
    link = array.uri.replace("/metadata/", "/data_source/")
    answer = array.context.http_client.put(link, json={"data_source": {}})
    assert "Not enough permissions" in answer.text
    with pytest.raises(Exception, match="Not enough permissions"):
        analyst[run].delete(recursive=True, external_only=False)
    assert session.data.catalog[run]["primary/eels"].shape[1:] == (2048,)
    analyst.context.close()
