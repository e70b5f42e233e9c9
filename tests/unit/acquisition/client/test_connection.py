"""Clients of a server that is not one of ours, or that sends wrong answers."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from Pyro5 import protocol

from bluesky_em.errors import ServerUnreachable
from tests.support.fake_server import PATIENCE, calling
from tests.support.raw_connection import GIGABYTES, header, message


@contextlib.contextmanager
def answering(*answers: bytes) -> Iterator[str]:
    """A server that sends these answers to any request."""

    def answer_all() -> None:
        sock, _ = listener.accept()
        with sock, contextlib.suppress(ConnectionResetError):
            for answer in answers:
                sock.recv(65536)
                sock.sendall(answer)
            while sock.recv(65536):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer_all)
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
    with answering(WELCOME, exception) as uri, calling(uri, "") as client:
        with pytest.raises(kind, match=words) as caught:
            client.call("identity")
        assert type(caught.value) is kind


def test_an_answer_that_asks_for_an_object_stays_a_dictionary() -> None:
    data = {"__class__": "Pyro5.client.Proxy", "state": ["PYRO:x@h:1"]}
    with (
        answering(WELCOME, answer(protocol.MSG_RESULT, data, 2)) as uri,
        calling(uri, "") as client,
    ):
        assert client.call("identity") == data


WRONG_ANSWERS = {
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
    "no msgpack": ([WELCOME, answer(5, b"\xc1", 2)], "not plain msgpack data"),
    "a web server": (
        [b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"], "another protocol",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("answers", "words"), WRONG_ANSWERS.values(), ids=WRONG_ANSWERS)
def test_a_server_that_is_not_one_of_ours_is_unreachable(answers: list[bytes], words: str) -> None:
    with answering(*answers) as uri, calling(uri, "") as client:
        with pytest.raises(ServerUnreachable, match=words):
            client.call("identity")
