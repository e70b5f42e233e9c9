"""What is heard of a node, and when it says to look instead."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import msgpack
import pytest
from websockets.sync.server import ServerConnection, serve

from bluesky_em.data.follow import _tiled_events
from bluesky_em.data.follow._tiled_events import CLOSED, TiledEvent, TiledEvents


@contextmanager
def listening(
    behave: Callable[[ServerConnection], None], process_request: Any = None
) -> Iterator[tuple[TiledEvents, str]]:
    """A server that behaves like this towards whoever connects, and one who listens to it."""
    with serve(behave, "127.0.0.1", 0, process_request=process_request) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        listener = TiledEvents("key")
        uri = f"http://127.0.0.1:{server.socket.getsockname()[1]}/api/v1/metadata/run"
        listener.listen(uri)
        try:
            yield listener, uri
        finally:
            listener.close()
            server.shutdown()
            thread.join()


def collect(listener: TiledEvents, count: int, timeout: float = 10.0) -> list[TiledEvent]:
    news: list[TiledEvent] = []
    deadline = time.monotonic() + timeout
    while len(news) < count and time.monotonic() < deadline:
        news += listener.wait(0.1)
    return news


def say(line: ServerConnection, *sequences: int, size: int = 1) -> None:
    line.send(msgpack.packb({"type": "table-schema"}))
    for sequence in sequences:
        line.send(msgpack.packb({"sequence": sequence, "payload": b"x" * size}))


def test_the_first_news_is_to_look_then_messages_come_in_order() -> None:
    def behave(line: ServerConnection) -> None:
        assert line.request is not None
        assert line.request.path == "/api/v1/stream/single/run?envelope_format=msgpack"
        assert line.request.headers["Authorization"] == "Apikey key"
        say(line, 4, 5)
        line.recv()

    with listening(behave) as (listener, uri):
        first, second, *messages = collect(listener, 4)
        assert first == second == (uri, None)  # before the first message some may have been missed
        assert [message["sequence"] for _, message in messages[:2] if message] == [4, 5]


def test_a_message_left_out_is_a_reason_to_look() -> None:
    def behave(line: ServerConnection) -> None:
        say(line, 1, 3)
        line.recv()

    with listening(behave) as (listener, uri):
        news = collect(listener, 4)
        assert [m and m["sequence"] for _, m in news[:4]] == [None, 1, None, 3]


def test_a_message_of_many_megabytes_is_heard_and_the_line_goes_on() -> None:
    def behave(line: ServerConnection) -> None:
        say(line, 1, 2, size=3_000_000)
        line.recv()

    with listening(behave) as (listener, _):
        news = collect(listener, 3)
        assert [len(m["payload"]) for _, m in news if m] == [3_000_000, 3_000_000]


def test_a_server_that_refuses_makes_it_look_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_tiled_events, "AGAIN", 0.05)

    def refuse(line: ServerConnection, request: Any) -> Any:
        return line.respond(HTTPStatus.INTERNAL_SERVER_ERROR, "no streaming cache\n")

    with listening(lambda line: None, refuse) as (listener, uri):
        assert collect(listener, 3)[:3] == [(uri, None)] * 3


@pytest.mark.parametrize("code", [1001, 1012])
def test_a_line_that_is_cut_is_opened_again_and_one_that_ended_is_not(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_tiled_events, "AGAIN", 0.05)
    lines: list[ServerConnection] = []

    def behave(line: ServerConnection) -> None:
        lines.append(line)
        say(line, len(lines))
        line.close(code if len(lines) == 1 else 1000)

    with listening(behave) as (listener, _):
        heard = [m for _, m in collect(listener, 9, timeout=1.0) if m]
        assert [m.get("sequence") for m in heard] == [1, 2, None]
        assert heard[-1] is CLOSED and len(lines) == 2
