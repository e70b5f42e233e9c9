"""Acquisition servers under attack: garbage, floods, wrong tokens, forbidden calls."""

import contextlib
import os
import random
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import Pyro5.api
import Pyro5.errors
import pytest
from Pyro5 import protocol, serializers

from bluesky_em.acquisition.client import _client
from bluesky_em.acquisition.client._address import ServerAddress
from bluesky_em.acquisition.client._connection import Refused
from bluesky_em.acquisition.instrument_pc import connections, wire
from bluesky_em.acquisition.sim import RemoteBeam
from bluesky_em.errors import ServerUnreachable
from tests.support.fake_server import PATIENCE, FakeDriver, calling, served
from tests.support.raw_connection import (
    GARBAGE,
    HELLO,
    TOKEN,
    all_from,
    authenticated,
    connect,
    connection,
    header,
    kinds,
    message,
    open_socket,
    started,
)

PROC = Path("/proc/self/task")  # Linux


@dataclass
class PC:
    """A simulated AutoScript PC in a process of its own, with a token."""

    uri: str
    pid: int

    @property
    def port(self) -> int:
        return ServerAddress.parse(self.uri).port

    def uri_of(self, thing: str) -> str:
        return f"PYRO:{thing}@127.0.0.1:{self.port}"

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/task")) if PROC.exists() else 0

    def peak(self) -> int:
        """The most memory it ever had, in MB."""
        if not PROC.exists():
            return 0
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) >> 10


@pytest.fixture(scope="module")
def pc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PC]:
    process = subprocess.Popen(
        [
            sys.executable, "-m", "bluesky_em", "serve", "autoscript", "--simulate", "--held",
            "--no-latency", "--port", "0", "--spool", str(tmp_path_factory.mktemp("spool")),
        ],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "BLUESKY_EM_TOKEN": TOKEN},
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    with process:
        ready = process.stdout.readline()
        assert "is ready" in ready
        yield PC(ready.split()[-1], process.pid)
        process.stdin.close()
        assert process.wait(PATIENCE) == 0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with a token, in this process."""
    with started(tmp_path_factory.mktemp("spool"), BLUESKY_EM_TOKEN=TOKEN) as uri:
        yield uri


@pytest.fixture
def uri(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """That server, for clients with the token in their environment."""
    monkeypatch.setenv("BLUESKY_EM_TOKEN", TOKEN)
    return server


def until(condition: Callable[[], bool], patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it has not become true"
        time.sleep(0.01)


def test_a_server_survives_the_garbage_of_a_port_scan(pc: PC) -> None:
    with calling(pc.uri, TOKEN) as line:
        line.call("status")
        before = pc.peak()
        dice = random.Random(0)
        scan = [*GARBAGE.values(), *(dice.randbytes(dice.randrange(300)) for _ in range(100))]
        for garbage in scan:
            with open_socket(pc.port) as sock, contextlib.suppress(ConnectionError):
                sock.sendall(garbage)
                if dice.random() < 0.5:  # others close the connection without reading the answer
                    with contextlib.suppress(OSError):
                        sock.shutdown(socket.SHUT_WR)
                    all_from(sock)
        assert line.call("identity")["name"]
    with calling(pc.uri, TOKEN) as line:
        assert line.call("identity")["name"]
    assert pc.peak() - before < 50
    until(lambda: pc.threads() < 15)


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_the_connection_is_closed_after_garbage(
    garbage: bytes, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "UNAUTHENTICATED_TIMEOUT", 0.1)
    with open_socket(uri) as sock:
        with contextlib.suppress(ConnectionError):
            sock.sendall(garbage)
        answer = all_from(sock)
    assert len(answer) < 300 and (not answer or answer[6] == protocol.MSG_CONNECTFAIL)


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_after_the_token_closes_only_that_connection(garbage: bytes, uri: str) -> None:
    with authenticated(uri) as sock:
        with contextlib.suppress(OSError):  # closed already
            sock.sendall(garbage)
            sock.shutdown(socket.SHUT_WR)
        all_from(sock)
    with calling(uri) as line:
        assert line.call("identity")["name"] == "fake"


def test_before_the_token_2_kb_are_accepted_and_after_it_32_mb(uri: str) -> None:
    with open_socket(uri) as sock:
        sock.sendall(header(protocol.MSG_CONNECT, 2049))  # and nothing after it
        assert b"2049 bytes is announced, at most 2048 are accepted" in all_from(sock)
    with authenticated(uri) as sock:
        sock.sendall(header(protocol.MSG_INVOKE, (32 << 20) + 1))
        assert all_from(sock) == b""


def test_a_thousand_silent_connections_do_not_block_the_server(pc: PC) -> None:
    with contextlib.ExitStack() as stack, calling(pc.uri, TOKEN) as before:
        before.call("status")
        for _ in range(1000):
            stack.enter_context(open_socket(pc.port))
        assert before.call("identity")["name"]
        with calling(pc.uri, TOKEN) as line:
            assert line.call("identity")["name"]
        assert pc.threads() < connections.UNAUTHENTICATED_LIMIT + 20
    until(lambda: pc.threads() < 15)


def test_a_flood_of_wrong_tokens_does_not_block_the_server(pc: PC) -> None:
    ended, refused = threading.Event(), []

    def flood() -> None:
        while not ended.is_set():
            with pytest.raises(Refused, match="wants a token"), connection(pc.uri, "open up"):
                pass
            refused.append(1)

    threads = [threading.Thread(target=flood) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        with calling(pc.uri, TOKEN) as line:
            assert line.call("identity")["name"]
    until(lambda: len(refused) > 300)
    ended.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert pc.threads() < connections.UNAUTHENTICATED_LIMIT + 20


def test_a_token_that_comes_byte_by_byte_has_no_more_time(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "UNAUTHENTICATED_TIMEOUT", 0.3)
    with open_socket(uri) as sock:
        began = time.monotonic()
        for byte in connect(HELLO):
            try:
                sock.sendall(bytes([byte]))
            except ConnectionError:
                break
            if select.select([sock], [], [], 0.02)[0]:
                break
        assert 0.2 < time.monotonic() - began < 1.0
        assert all_from(sock) == b""


def test_an_authenticated_connection_may_be_idle_for_any_time(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "UNAUTHENTICATED_TIMEOUT", 0.1)
    monkeypatch.setattr(connections, "_IDLE_CHECK_INTERVAL", 0.05)
    with connection(uri) as verified:
        for _ in range(3):
            with open_socket(uri) as other:
                assert all_from(other) == b""
        assert verified.call("identity", (), PATIENCE)["name"] == "fake"


def test_too_many_authenticated_connections_close_the_longest_idle_which_connects_again(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "AUTHENTICATED_LIMIT", 2)
    monkeypatch.setattr(_client, "IDLE_LIMIT", 0.0)
    with calling(uri) as first, calling(uri) as second, calling(uri) as third:
        for _ in range(3):
            for line in (first, second, third):
                assert line.call("identity")["name"] == "fake"


def test_a_busy_connection_is_not_closed_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "AUTHENTICATED_LIMIT", 1)
    driver = FakeDriver()
    driver.block.set()
    with served(driver, tmp_path) as uri, connection(uri) as exposing:
        exposure = threading.Thread(
            target=lambda: exposing.call("expose", ("run.eels/0", "eels", {}), PATIENCE)
        )
        exposure.start()
        assert driver.exposing.wait(PATIENCE)
        with calling(uri) as line:
            with pytest.raises(ServerUnreachable, match="refused: 1 connections .* are busy"):
                line.call("identity")
        driver.abort()
        exposure.join(PATIENCE)


def test_a_computer_without_threads_left_continues_to_serve(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with open_socket(uri) as sock:
            assert all_from(sock) == b""
    with calling(uri) as line:
        assert line.call("identity")["name"] == "fake"


def test_a_client_without_token_can_neither_read_a_frame_nor_move_anything(pc: PC) -> None:
    options = {"size": 128, "dwell": 1e-6}
    with calling(pc.uri, TOKEN) as line:
        line.call("expose", "run/scan_image/0", "scan_image", options)
        before = line.call("get", "stage_x")
        asked = {
            "tem_server": [
                ("fetch", ["run/scan_image/0", 0, 100]), ("set", ["stage_x", before + 1e-6]),
                ("expose", ["run/scan_image/1", "scan_image", options]),
                ("release", [["run/scan_image/0"]]),
                ("abort", []), ("get", ["stage_x"]), ("identity", []), ("references", []),
            ],
            "beam": [("snapshot", []), ("ping", [])],
            "Pyro.Daemon": [("registered", []), ("info", []), ("get_metadata", ["tem_server"])],
        }  # fmt: skip
        for thing, calls in asked.items():
            for method, arguments in calls:
                for token in ("", "open up"):
                    with calling(pc.uri_of(thing), token) as unverified:
                        with pytest.raises(ServerUnreachable, match="wants a token: set"):
                            unverified.call(method, *arguments)
                question = (thing, method, arguments, {})
                with open_socket(pc.port) as sock:  # without a handshake
                    sock.sendall(message(protocol.MSG_INVOKE, question))
                    answer = all_from(sock)
                    assert not answer or answer[6] == protocol.MSG_CONNECTFAIL
                with open_socket(pc.port) as sock:  # continuing after the refusal
                    refused = connect({"handshake": "open up", "object": thing})
                    sock.sendall(refused + message(protocol.MSG_INVOKE, question))
                    assert protocol.MSG_RESULT not in kinds(all_from(sock))
        assert line.call("get", "stage_x") == before
        assert line.call("references") == ["run/scan_image/0"]
        assert len(line.call("fetch", "run/scan_image/0", 0, 100)) == 100


def test_with_the_token_the_simulated_beam_and_the_daemon_answer(pc: PC) -> None:
    with calling(pc.uri_of("beam"), TOKEN) as line:
        assert line.call("snapshot")["blanked"] is True
    with calling(pc.uri_of("Pyro.Daemon"), TOKEN) as line:
        assert set(line.call("registered")) == {"Pyro.Daemon", "beam", "tem_server"}


@pytest.mark.parametrize("serializer", ["serpent", "json", "marshal"])
def test_other_serializers_are_refused_even_with_the_token(serializer: str, uri: str) -> None:
    with Pyro5.api.Proxy(uri) as proxy:
        proxy._pyroHandshake = TOKEN
        proxy._pyroSerializer = serializer
        with pytest.raises(Pyro5.errors.CommunicationError, match="only the serializer msgpack"):
            proxy._pyroBind()


def test_a_client_of_pyros_own_is_served_with_msgpack_and_the_token(uri: str) -> None:
    with Pyro5.api.Proxy(uri) as proxy:
        proxy._pyroHandshake = TOKEN
        proxy._pyroSerializer = "msgpack"
        assert proxy.identity()["name"] == "fake"
        with pytest.raises(ValueError, match="must be between"):
            proxy.set("energy_offset", 5000)


def test_a_message_creates_no_objects(uri: str) -> None:
    made: list[Any] = []
    serializers.SerializerBase.register_dict_to_class("bomb", lambda *args: made.append(args))
    try:
        for where in ("handshake", "call"):
            bomb = {"__class__": "bomb"}
            hello = {**HELLO, "handshake": bomb} if where == "handshake" else HELLO
            with open_socket(uri) as sock:
                sock.sendall(connect(hello))
                question = ("eels_server", "set", ["energy_offset", [{"a": bomb}]], {})
                sock.sendall(message(protocol.MSG_INVOKE, question))
                assert protocol.MSG_RESULT not in kinds(all_from(sock))
    finally:
        serializers.SerializerBase.unregister_dict_to_class("bomb")
    assert made == []


FLAGS = {
    "compressed": protocol.FLAGS_COMPRESSED,
    "one-way": protocol.FLAGS_ONEWAY,  # a thread each
    "batched": protocol.FLAGS_BATCH,
    "kept serialized": protocol.FLAGS_KEEPSERIALIZED,  # unmarshals an annotation
}


@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
def test_other_kinds_of_pyro_calls_are_refused(flags: int, uri: str) -> None:
    with calling(uri) as line:
        line.call("set", "energy_offset", 0.0)
        with authenticated(uri) as sock:
            question = ("eels_server", "set", ["energy_offset", 7.0], {})
            sock.sendall(message(protocol.MSG_INVOKE, question, flags=flags))
            assert all_from(sock) == b""
        assert line.call("get", "energy_offset") == 0.0


def test_numpy_numbers_can_be_sent_and_other_objects_cannot(uri: str) -> None:
    with calling(uri) as line:
        assert line.call("set", "energy_offset", np.float32(2.5)) == 2.5
        assert line.call("set", "energy_offset", np.int64(7)) == 7
        with pytest.raises(TypeError, match="cannot go to an acquisition server.*not ndarray"):
            line.call("set", "energy_offset", np.zeros(3))
        with pytest.raises(ValueError, match="arguments of 'release' have .* bytes; at most"):
            line.call("release", [bytes(wire.MAX_MESSAGE)])
        assert line.call("get", "energy_offset") == 7


@pytest.mark.parametrize(
    "name",
    ["_driver", "_spool", "_refuse_if_closed", "__init__", "__class__", "__dict__", "__reduce__",
     "_pyroDaemon", "_pyroExposed", "no_such_method", "_driver.park", "expose.__func__"],
)  # fmt: skip
def test_only_the_published_methods_can_be_called(name: str, uri: str) -> None:
    with calling(uri) as line:
        for method, arguments in ((name, []), ("__getattr__", [name]), ("__setattr__", [name, 1])):
            with pytest.raises(AttributeError):
                line.call(method, *arguments)


def test_only_the_state_of_the_simulated_beam_can_be_called(pc: PC) -> None:
    with calling(pc.uri_of("beam"), TOKEN) as line:
        for method in ("change", "now", "_state", "__init__"):
            with pytest.raises(AttributeError):
                line.call(method)


def test_fetch_and_release_cannot_name_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BLUESKY_EM_TOKEN", raising=False)
    secret = tmp_path.parent / "secret.frame"
    secret.write_bytes(b"secret" * 100)
    inside = tmp_path / "notes.txt"
    inside.write_bytes(b"secret" * 100)
    names = [str(secret), str(secret.with_suffix("")), "../secret", "../secret.frame", "secret",
             "notes.txt", "", ".", "a\0b"]  # fmt: skip
    with served(FakeDriver(), tmp_path) as uri, calling(uri) as line:
        for name in names:
            with pytest.raises(LookupError, match="is not in the spool"):
                line.call("fetch", name, 0, 100)
        for odd in (None, 5, b"secret", ["secret"], {"a": "secret"}):
            with pytest.raises((AttributeError, TypeError)):
                line.call("fetch", odd, 0, 100)
        line.call("release", names)
        line.call("expose", "../../outside", "eels", {})
        assert line.call("references") == ["../../outside"]
    assert secret.exists() and inside.exists()
    assert not list(tmp_path.parent.glob("outside*"))


def test_a_simulated_spectrometer_sees_a_beam_behind_a_token(
    pc: PC, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLUESKY_EM_TOKEN", TOKEN)
    beam = RemoteBeam(pc.uri_of("beam"))
    assert beam.refresh()["blanked"] is True
    beam.close()
    monkeypatch.setenv("BLUESKY_EM_TOKEN", "open up")
    unverified = RemoteBeam(pc.uri_of("beam"))
    with pytest.raises(ConnectionError, match="does not answer: .* wants a token"):
        unverified.refresh()
