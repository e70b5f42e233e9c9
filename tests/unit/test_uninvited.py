"""Acquisition servers among people nobody invited: garbage, floods, wrong tokens, tricks."""

import contextlib
import os
import random
import select
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import Pyro5.api
import Pyro5.errors
import pytest
from Pyro5 import protocol, serializers

from bluesky_em import credentials, daemon, link, wire
from bluesky_em.address import Address
from bluesky_em.caller import Caller, Refused
from bluesky_em.errors import ServerUnreachable
from bluesky_em.server import serve
from bluesky_em.sim import RemoteBeam
from tests.unit.fake_server import PATIENCE, FakeDriver, calling, served

TOKEN = "sésame"
PROC = Path("/proc/self/task")  # Linux
GIGABYTES = 4_000_000_000
HELLO = {"handshake": TOKEN, "object": "eels_server"}


@dataclass
class PC:
    """A simulated AutoScript PC in a process of its own, with a token."""

    uri: str
    pid: int

    @property
    def port(self) -> int:
        return Address.parse(self.uri).port

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


@contextlib.contextmanager
def started(spool: Path, **environment: str) -> Iterator[str]:
    """A server that alone has read these variables: its clients do not inherit them."""
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            uri = stack.enter_context(served(FakeDriver(), spool))
        yield uri


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with a token, in this process."""
    with started(tmp_path_factory.mktemp("spool"), BLUESKY_EM_TOKEN=TOKEN) as uri:
        yield uri


@pytest.fixture
def uri(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """That server, to one who has the token in his environment."""
    monkeypatch.setenv("BLUESKY_EM_TOKEN", TOKEN)
    return server


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


def dial(where: str | int) -> socket.socket:
    port = where if isinstance(where, int) else Address.parse(where).port
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def all_from(sock: socket.socket) -> bytes:
    """What comes until the other side hangs up, which it must do."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while part := sock.recv(65536):
            received += part
    return received


def guest(uri: str, data: Any = HELLO) -> socket.socket:
    """A connection that has given the token."""
    sock = dial(uri)
    sock.sendall(connect(data))
    assert sock.recv(65536)[6] == protocol.MSG_CONNECTOK
    return sock


def caller(uri: str, token: str = TOKEN) -> contextlib.closing[Caller]:
    return contextlib.closing(Caller(Address.parse(uri), token, PATIENCE))


def until(condition: Callable[[], bool], patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


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


def test_a_port_scans_worth_of_garbage_leaves_the_server_serving(pc: PC) -> None:
    with calling(pc.uri, TOKEN) as line:
        line.call("status")
        before = pc.peak()
        dice = random.Random(0)
        scan = [*GARBAGE.values(), *(dice.randbytes(dice.randrange(300)) for _ in range(100))]
        for garbage in scan:
            with dial(pc.port) as sock, contextlib.suppress(ConnectionError):
                sock.sendall(garbage)
                if dice.random() < 0.5:  # others hang up without having listened
                    with contextlib.suppress(OSError):
                        sock.shutdown(socket.SHUT_WR)
                    all_from(sock)
        assert line.call("identity")["name"]
    with calling(pc.uri, TOKEN) as line:
        assert line.call("identity")["name"]
    assert pc.peak() - before < 50
    until(lambda: pc.threads() < 15)


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_hung_up_on(garbage: bytes, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "STRANGER_TIME", 0.1)
    with dial(uri) as sock:
        with contextlib.suppress(ConnectionError):
            sock.sendall(garbage)
        answer = all_from(sock)
    assert len(answer) < 300 and (not answer or answer[6] == protocol.MSG_CONNECTFAIL)


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_from_a_guest_costs_only_his_connection(garbage: bytes, uri: str) -> None:
    with guest(uri) as sock:
        with contextlib.suppress(OSError):  # hung up on already
            sock.sendall(garbage)
            sock.shutdown(socket.SHUT_WR)
        all_from(sock)
    with calling(uri) as line:
        assert line.call("identity")["name"] == "fake"


def test_before_the_token_2_kb_are_taken_and_after_it_32_mb(uri: str) -> None:
    with dial(uri) as sock:
        sock.sendall(header(protocol.MSG_CONNECT, 2049))  # and nothing after it
        assert b"2049 bytes is announced, at most 2048 are taken" in all_from(sock)
    with guest(uri) as sock:
        sock.sendall(header(protocol.MSG_INVOKE, (32 << 20) + 1))
        assert all_from(sock) == b""


def test_a_thousand_silent_connections_lock_nobody_out(pc: PC) -> None:
    with contextlib.ExitStack() as stack, calling(pc.uri, TOKEN) as before:
        before.call("status")
        for _ in range(1000):
            stack.enter_context(dial(pc.port))
        assert before.call("identity")["name"]
        with calling(pc.uri, TOKEN) as line:
            assert line.call("identity")["name"]
        assert pc.threads() < daemon.STRANGERS + 20
    until(lambda: pc.threads() < 15)


def test_a_flood_of_wrong_tokens_locks_nobody_out(pc: PC) -> None:
    ended, refused = threading.Event(), []

    def flood() -> None:
        while not ended.is_set():
            with pytest.raises(Refused, match="wants a token"), caller(pc.uri, "open up"):
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
    assert pc.threads() < daemon.STRANGERS + 20


def test_who_trickles_bytes_is_not_waited_for(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "STRANGER_TIME", 0.3)
    with dial(uri) as sock:
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


def test_a_guest_may_be_silent_for_as_long_as_he_likes(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "STRANGER_TIME", 0.1)
    monkeypatch.setattr(daemon, "_LOOK", 0.05)
    with caller(uri) as invited:
        for _ in range(3):
            with dial(uri) as stranger:
                assert all_from(stranger) == b""
        assert invited.call("identity", (), PATIENCE)["name"] == "fake"


def test_too_many_guests_displace_the_longest_silent_who_dials_again(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "GUESTS", 2)
    monkeypatch.setattr(link, "IDLE", 0.0)
    with calling(uri) as first, calling(uri) as second, calling(uri) as third:
        for _ in range(3):
            for line in (first, second, third):
                assert line.call("identity")["name"] == "fake"


def test_a_busy_guest_is_not_displaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "GUESTS", 1)
    driver = FakeDriver()
    driver.block.set()
    with served(driver, tmp_path) as uri, caller(uri) as exposing:
        exposure = threading.Thread(
            target=lambda: exposing.call("expose", ("run/eels/0", "eels", {}), PATIENCE)
        )
        exposure.start()
        assert driver.exposing.wait(PATIENCE)
        with calling(uri) as line:
            with pytest.raises(ServerUnreachable, match="refused: 1 connections .* are busy"):
                line.call("identity")
        driver.abort()
        exposure.join(PATIENCE)


def test_a_computer_without_threads_left_goes_on_serving(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with dial(uri) as sock:
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
                    with calling(pc.uri_of(thing), token) as uninvited:
                        with pytest.raises(ServerUnreachable, match="wants a token: set"):
                            uninvited.call(method, *arguments)
                question = (thing, method, arguments, {})
                with dial(pc.port) as sock:  # without saying hello
                    sock.sendall(message(protocol.MSG_INVOKE, question))
                    answer = all_from(sock)
                    assert not answer or answer[6] == protocol.MSG_CONNECTFAIL
                with dial(pc.port) as sock:  # going on after the refusal
                    refused = connect({"handshake": "open up", "object": thing})
                    sock.sendall(refused + message(protocol.MSG_INVOKE, question))
                    assert protocol.MSG_RESULT not in _kinds(all_from(sock))
        assert line.call("get", "stage_x") == before
        assert line.call("references") == ["run/scan_image/0"]
        assert len(line.call("fetch", "run/scan_image/0", 0, 100)) == 100


def _kinds(answer: bytes) -> list[int]:
    return [answer[i + 6] for i in range(len(answer) - 6) if answer[i : i + 4] == b"PYRO"]


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


def test_a_message_makes_no_objects(uri: str) -> None:
    made: list[Any] = []
    serializers.SerializerBase.register_dict_to_class("bomb", lambda *args: made.append(args))
    try:
        for where in ("handshake", "call"):
            bomb = {"__class__": "bomb"}
            hello = {**HELLO, "handshake": bomb} if where == "handshake" else HELLO
            with dial(uri) as sock:
                sock.sendall(connect(hello))
                question = ("eels_server", "set", ["energy_offset", [{"a": bomb}]], {})
                sock.sendall(message(protocol.MSG_INVOKE, question))
                assert protocol.MSG_RESULT not in _kinds(all_from(sock))
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
def test_pyros_other_ways_to_call_are_closed(flags: int, uri: str) -> None:
    with calling(uri) as line:
        line.call("set", "energy_offset", 0.0)
        with guest(uri) as sock:
            question = ("eels_server", "set", ["energy_offset", 7.0], {})
            sock.sendall(message(protocol.MSG_INVOKE, question, flags=flags))
            assert all_from(sock) == b""
        assert line.call("get", "energy_offset") == 0.0


def test_numpys_numbers_go_over_the_wire_and_other_objects_do_not(uri: str) -> None:
    with calling(uri) as line:
        assert line.call("set", "energy_offset", np.float32(2.5)) == 2.5
        assert line.call("set", "energy_offset", np.int64(7)) == 7
        with pytest.raises(TypeError, match="cannot go to an acquisition server.*not ndarray"):
            line.call("set", "energy_offset", np.zeros(3))
        with pytest.raises(ValueError, match="arguments of 'release' have .* bytes; at most"):
            line.call("release", [bytes(wire.LARGEST)])
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


def test_of_the_simulated_beam_nothing_but_its_state_can_be_called(pc: PC) -> None:
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


ODD = [
    None, True, 5, 5.0, b"5", ["5"], {"5": "5"}, "", " 5", "5 ", "5\0", "５", "x" * 1500, "é" * 900,
]  # fmt: skip


def test_odd_tokens_open_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLUESKY_EM_TOKEN", "5")
    with served(FakeDriver(), tmp_path) as uri:
        for odd in ODD:
            with dial(uri) as sock:
                sock.sendall(connect({"handshake": odd, "object": "eels_server"}))
                assert all_from(sock)[6] == protocol.MSG_CONNECTFAIL, odd
        guest(uri, {"handshake": "5", "object": "eels_server"}).close()


@pytest.mark.parametrize("blank", [" ", "\t", "   \n"])
def test_a_token_of_blanks_is_no_token(
    blank: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLUESKY_EM_TOKEN", blank)
    with pytest.raises(PermissionError, match="without a token"):
        serve(FakeDriver(), "eels_server", "0.0.0.0", 0, str(tmp_path))


def test_blanks_around_a_token_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLUESKY_EM_TOKEN", "word ")  # as `set X=word && serve` leaves it
    with served(FakeDriver(), tmp_path) as uri:
        monkeypatch.setenv("BLUESKY_EM_TOKEN", "word")
        with calling(uri) as line:
            assert line.call("identity")["name"] == "fake"


@pytest.mark.parametrize(
    ("token", "words"), [("x" * 1025, "has 1025 bytes, at most 1024"), ("\udcff", "no UTF-8 text")]
)
def test_a_token_that_cannot_be_sent_is_refused_at_once(
    token: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {"BLUESKY_EM_TOKEN": token})
    with pytest.raises(ValueError, match=words):
        credentials.token()


@contextlib.contextmanager
def lying(*answers: bytes) -> Iterator[str]:
    """A server that gives these answers, whatever it is asked."""

    def lie() -> None:
        sock, _ = listener.accept()
        with sock, contextlib.suppress(ConnectionResetError):
            for answer in answers:
                sock.recv(65536)
                sock.sendall(answer)
            while sock.recv(65536):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lie)
        thread.start()
        yield f"PYRO:eels_server@127.0.0.1:{listener.getsockname()[1]}"
        thread.join(PATIENCE)


def answer(kind: int, data: Any, number: int, **options: Any) -> bytes:
    given = bytearray(message(kind, data, **options))
    given[10:12] = number.to_bytes(2, "big")
    return bytes(given)


WELCOME = answer(protocol.MSG_CONNECTOK, {"handshake": "hello", "meta": {}}, 1)


def raised(name: str, *args: Any) -> bytes:
    data = {"__class__": name, "__exception__": True, "args": args, "attributes": {"args": "x"}}
    return answer(protocol.MSG_RESULT, data, 2, flags=protocol.FLAGS_EXCEPTION)


@pytest.mark.parametrize(
    ("exception", "kind", "words"),
    [
        (raised("builtins.ValueError", "too high"), ValueError, "^too high$"),
        (raised("builtins.SystemExit", 1), RuntimeError, "builtins.SystemExit: 1"),
        (raised("builtins.KeyboardInterrupt"), RuntimeError, "builtins.KeyboardInterrupt"),
        (raised("builtins.eval", "1/0"), RuntimeError, "builtins.eval: 1/0"),
        (raised("vendor.Error", "no vacuum"), RuntimeError, "vendor.Error: no vacuum"),
        (raised("Pyro5.client.Proxy", "x"), RuntimeError, "Pyro5.client.Proxy: x"),
        (raised("builtins.UnicodeDecodeError", "x"), RuntimeError, "UnicodeDecodeError: x"),
    ],
)
def test_a_server_can_make_the_client_raise_pythons_ordinary_exceptions_and_nothing_else(
    exception: bytes, kind: type[Exception], words: str
) -> None:
    with lying(WELCOME, exception) as uri, calling(uri, "") as line:
        with pytest.raises(kind, match=words) as caught:
            line.call("identity")
        assert type(caught.value) is kind


def test_an_answer_that_asks_for_an_object_stays_a_dictionary() -> None:
    data = {"__class__": "Pyro5.client.Proxy", "state": ["PYRO:x@h:1"]}
    with lying(WELCOME, answer(protocol.MSG_RESULT, data, 2)) as uri, calling(uri, "") as line:
        assert line.call("identity") == data


LIES = {
    "marshal in the hello": (
        [answer(protocol.MSG_CONNECTOK, b"\xe9", 1, serializer=2)], "only the serializer msgpack",
    ),
    "gigabytes in the hello": ([header(2, GIGABYTES)], "message too large"),
    "100 MB in an answer": ([WELCOME, header(5, 100_000_000)], "100000000 bytes is announced"),
    "compressed": (
        [WELCOME, answer(5, b"x", 2, flags=protocol.FLAGS_COMPRESSED)], "PYRO_COMPRESSION",
    ),
    "another call's answer": ([WELCOME, answer(protocol.MSG_RESULT, 5, 1)], "got answer 1"),
    "an extension": ([WELCOME, answer(5, b"\xc7\x05\x05abcde", 2)], "an extension of type 0x5"),
    "no msgpack": ([WELCOME, answer(5, b"\xc1", 2)], "no plain msgpack data"),
    "a web server": ([b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"], "our language"),
}  # fmt: skip


@pytest.mark.parametrize(("answers", "words"), LIES.values(), ids=LIES)
def test_a_server_that_is_none_of_ours_is_unreachable(answers: list[bytes], words: str) -> None:
    with lying(*answers) as uri, calling(uri, "") as line:
        with pytest.raises(ServerUnreachable, match=words):
            line.call("identity")


@dataclass
class Certificates:
    """Made with the command of docs/instrument_pcs.md."""

    folder: Path

    def make(self, name: str, host: str = "IP:127.0.0.1") -> None:
        command = (
            f"req -x509 -newkey rsa:2048 -nodes -days 2 -keyout {name}.key -out {name}.crt"
            f" -subj /CN={name} -addext subjectAltName={host}"
        )
        subprocess.run(
            ["openssl", *command.split()], cwd=self.folder, check=True, capture_output=True
        )

    def path(self, name: str) -> str:
        return str(self.folder / name)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on this computer")
    certificates = Certificates(tmp_path_factory.mktemp("certificates"))
    certificates.make("pc")
    certificates.make("impostor")
    certificates.make("elsewhere", "DNS:elsewhere")
    return certificates


@pytest.fixture(scope="module")
def tls_server(
    certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    with started(
        tmp_path_factory.mktemp("spool"),
        BLUESKY_EM_TOKEN=TOKEN,
        BLUESKY_EM_TLS_CERT=certificates.path("pc.crt"),
        BLUESKY_EM_TLS_KEY=certificates.path("pc.key"),
    ) as uri:
        yield uri


@pytest.fixture
def trusting(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A control PC that knows the certificate of `pc`."""
    monkeypatch.setenv("BLUESKY_EM_TLS_CA", certificates.path("pc.crt"))
    monkeypatch.setenv("BLUESKY_EM_TOKEN", TOKEN)
    return monkeypatch


def test_with_tls_frames_travel_encrypted(
    tls_server: str, trusting: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with caller(tls_server) as encrypted:
        assert encrypted._wire.sock.version() in ("TLSv1.2", "TLSv1.3")
        encrypted.call("expose", ("run/eels/0", "eels", {}), PATIENCE)
        assert len(encrypted.call("fetch", ("run/eels/0", 0, 99), PATIENCE)) == 16


def test_large_blocks_pass_tls_unchanged(
    certificates: Certificates, trusting: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trusting.setenv("BLUESKY_EM_TLS_CERT", certificates.path("pc.crt"))
    trusting.setenv("BLUESKY_EM_TLS_KEY", certificates.path("pc.key"))
    driver = FakeDriver()
    driver.array = np.arange(1 << 19, dtype="<i4")
    with served(driver, tmp_path) as uri, calling(uri) as line:
        line.call("expose", "run/eels/0", "eels", {})
        blocks = [line.call("fetch", "run/eels/0", i << 20, 1 << 20) for i in (0, 1)]
    assert b"".join(blocks) == driver.array.tobytes()


def test_tls_does_not_replace_the_token(tls_server: str, trusting: pytest.MonkeyPatch) -> None:
    with calling(tls_server, "open up") as line:
        with pytest.raises(ServerUnreachable, match="wants a token: set BLUESKY_EM_TOKEN"):
            line.call("identity")


def test_a_client_in_plain_text_is_refused_and_told_of_tls(tls_server: str) -> None:
    with calling(tls_server, TOKEN) as line:
        with pytest.raises(ServerUnreachable, match=r"does it demand TLS \(BLUESKY_EM_TLS_CA"):
            line.call("identity")


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_leaves_a_server_with_tls_serving(
    garbage: bytes, tls_server: str, trusting: pytest.MonkeyPatch
) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            sock = stack.enter_context(dial(tls_server))
            with contextlib.suppress(OSError):
                sock.sendall(garbage)
        with calling(tls_server) as line:
            assert line.call("identity")["name"] == "fake"


def test_silent_connections_do_not_lock_a_server_with_tls(
    tls_server: str, trusting: pytest.MonkeyPatch
) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(3 * daemon.STRANGERS):
            stack.enter_context(dial(tls_server))
        with calling(tls_server) as line:
            assert line.call("identity")["name"] == "fake"


@pytest.mark.parametrize(
    ("trusted", "words"),
    [("impostor.crt", "self-signed certificate"), ("elsewhere.crt", "self-signed certificate")],
)
def test_a_server_with_another_certificate_is_not_spoken_to(
    trusted: str, words: str, tls_server: str, certificates: Certificates,
    trusting: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    trusting.setenv("BLUESKY_EM_TLS_CA", certificates.path(trusted))
    with calling(tls_server) as line:
        with pytest.raises(ServerUnreachable, match="cannot prove that it is 127.0.0.1: " + words):
            line.call("identity")


def test_a_certificate_of_another_computer_is_no_proof(
    certificates: Certificates, trusting: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trusting.setenv("BLUESKY_EM_TLS_CERT", certificates.path("elsewhere.crt"))
    trusting.setenv("BLUESKY_EM_TLS_KEY", certificates.path("elsewhere.key"))
    trusting.setenv("BLUESKY_EM_TLS_CA", certificates.path("elsewhere.crt"))
    with served(FakeDriver(), tmp_path) as uri, calling(uri) as line:
        with pytest.raises(ServerUnreachable, match="not valid for '127.0.0.1'.*devices/ file"):
            line.call("identity")


def test_a_server_in_plain_text_is_refused_by_a_client_with_tls(
    uri: str, trusting: pytest.MonkeyPatch
) -> None:
    with calling(uri) as line:
        with pytest.raises(ServerUnreachable, match="does not speak TLS.*set BLUESKY_EM_TLS_CERT"):
            line.call("identity")


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"CERT": "pc.crt", "KEY": "no-such.key"}, "BLUESKY_EM_TLS_CERT='.*pc.crt' and .* cannot"),
        ({"CERT": "pc.crt", "KEY": "impostor.key"}, "cannot be used .*two PEM files"),
        ({"CERT": "pc.crt"}, "cannot be used"),
        ({"KEY": "pc.key"}, "BLUESKY_EM_TLS_KEY is set without BLUESKY_EM_TLS_CERT"),
    ],
)
def test_a_server_whose_certificate_cannot_be_used_does_not_start(
    variables: dict[str, str], words: str, certificates: Certificates, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name, file in variables.items():
        monkeypatch.setenv(f"BLUESKY_EM_TLS_{name}", certificates.path(file))
    with pytest.raises(ValueError, match=words):
        serve(FakeDriver(), "eels_server", "127.0.0.1", 0, str(tmp_path))


@pytest.mark.parametrize("file", ["no-such.crt", "pc.key"])
def test_certificates_that_cannot_be_used_are_named(
    file: str, uri: str, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLUESKY_EM_TLS_CA", certificates.path(file))
    with calling(uri) as line, pytest.raises(ValueError, match=f"TLS_CA='.*{file}' cannot be used"):
        line.call("identity")


def test_a_simulated_spectrometer_sees_a_beam_behind_a_token(
    pc: PC, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLUESKY_EM_TOKEN", TOKEN)
    beam = RemoteBeam(pc.uri_of("beam"))
    assert beam.refresh()["blanked"] is True
    beam.close()
    monkeypatch.setenv("BLUESKY_EM_TOKEN", "open up")
    uninvited = RemoteBeam(pc.uri_of("beam"))
    with pytest.raises(ConnectionError, match="does not answer: .* wants a token"):
        uninvited.refresh()
