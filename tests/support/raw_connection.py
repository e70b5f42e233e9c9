"""Raw connections to a server: their messages, good and bad, and its answers."""

import contextlib
import socket
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
from Pyro5 import protocol

from bluesky_em.acquisition.client._address import ServerAddress
from bluesky_em.acquisition.client._connection import Connection
from bluesky_em.acquisition.instrument_pc import wire
from tests.support.fake_server import PATIENCE, FakeDriver, served

TOKEN = "sésame"
GIGABYTES = 4_000_000_000
HELLO = {"handshake": TOKEN, "object": "eels_server"}


@contextlib.contextmanager
def started(spool: Path, **environment: str) -> Iterator[str]:
    """A server with these environment variables; its clients do not have them."""
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            uri = stack.enter_context(served(FakeDriver(), spool))
        yield uri


def header(
    kind: int, size: int, *, serializer: int = wire.MSGPACK, flags: int = 0, annotations: int = 0
) -> bytes:
    return struct.pack(
        "!4sHBBHHII16sHH",
        b"PYRO", 502, kind, serializer, flags, 0, size, annotations, bytes(16), 0, 0x4DC5,
    )  # fmt: skip


def message(kind: int, data: Any, **options: Any) -> bytes:
    payload = data if isinstance(data, bytes) else msgpack.packb(data)
    return header(kind, len(payload), **options) + payload


def connect(data: Any, **options: Any) -> bytes:
    return message(protocol.MSG_CONNECT, data, **options)


def open_socket(where: str | int) -> socket.socket:
    port = where if isinstance(where, int) else ServerAddress.parse(where).port
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def all_from(sock: socket.socket) -> bytes:
    """All bytes until the other side closes the connection, which it must do."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while part := sock.recv(65536):
            received += part
    return received


def authenticated(uri: str, data: Any = HELLO) -> socket.socket:
    """A connection whose token has been verified."""
    sock = open_socket(uri)
    sock.sendall(connect(data))
    assert sock.recv(65536)[6] == protocol.MSG_CONNECTOK
    return sock


def connection(uri: str, token: str = TOKEN) -> contextlib.closing[Connection]:
    return contextlib.closing(Connection(ServerAddress.parse(uri), token, PATIENCE))


def kinds(answer: bytes) -> list[int]:
    """The kinds of the messages in an answer."""
    return [answer[i + 6] for i in range(len(answer) - 6) if answer[i : i + 4] == b"PYRO"]


DEEP = b"\x91" * 1500 + b"\xc0"
WIDE = b"\xdd\xff\xff\xff\xff" * 300
OBJECT = {"handshake": {"__class__": "Pyro5.core.URI", "state": ["PYRO", "x", None, "h", 1]}}
GARBAGE = {
    "nothing": b"",
    "one byte": b"P",
    "half a header": header(1, 10)[:21],
    "a header alone": header(1, 10),
    "half a message": connect(HELLO)[:-5],
    "a web browser": b"GET / HTTP/1.1\r\nHost: gatan-pc\r\n\r\n",
    "a TLS client": bytes.fromhex("160301020001 0001fc0303") + bytes(500),
    "gigabytes": header(1, GIGABYTES) + bytes(5000),
    "gigabytes of annotations": header(1, 10, annotations=GIGABYTES) + bytes(5000),
    "gigabytes without a hello": header(4, GIGABYTES) + bytes(5000),
    "a hello of 3 kB": connect({"handshake": "x" * 3000, "object": "eels_server"}),
    "no msgpack": connect(b"\xc1" * 100),
    "a number": connect(5),
    "deep lists": connect(DEEP),
    "wide lists": connect(WIDE),
    "an object": connect(OBJECT),
    "a zip bomb": connect(zlib.compress(bytes(1_500_000)), flags=protocol.FLAGS_COMPRESSED),
    "marshal": connect(b"\xe9" * 100, serializer=2),
    "a serializer there is not": connect(b"x", serializer=99),
    "a kind there is not": message(77, {}),
    "a ping": message(protocol.MSG_PING, b"ping"),
    "an answer": message(protocol.MSG_RESULT, {}),
}
