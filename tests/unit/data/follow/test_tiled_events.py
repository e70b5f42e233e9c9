"""Events of a Tiled node, and the requests to read it when messages may be missing."""

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
def subscription(
    behave: Callable[[ServerConnection], None], process_request: Any = None
) -> Iterator[tuple[TiledEvents, str]]:
    """Start a server that serves each connection like this, and subscribe to a node of it."""
    with serve(behave, "127.0.0.1", 0, process_request=process_request) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        events = TiledEvents("key")
        uri = f"http://127.0.0.1:{server.socket.getsockname()[1]}/api/v1/metadata/run"
        events.subscribe(uri)
        try:
            yield events, uri
        finally:
            events.close()
            server.shutdown()
            thread.join()


def collect(events: TiledEvents, count: int, timeout: float = 60.0) -> list[TiledEvent]:
    collected: list[TiledEvent] = []
    deadline = time.monotonic() + timeout
    while len(collected) < count and time.monotonic() < deadline:
        collected += events.wait(0.1)
    return collected


def send(connection: ServerConnection, *sequences: int, size: int = 1) -> None:
    connection.send(msgpack.packb({"type": "table-schema"}))
    for sequence in sequences:
        connection.send(msgpack.packb({"sequence": sequence, "payload": b"x" * size}))


def test_the_first_event_is_to_read_the_node_then_messages_come_in_order() -> None:
    def behave(connection: ServerConnection) -> None:
        assert connection.request is not None
        assert connection.request.path == "/api/v1/stream/single/run?envelope_format=msgpack"
        assert connection.request.headers["Authorization"] == "Apikey key"
        send(connection, 4, 5)
        connection.recv()

    with subscription(behave) as (events, uri):
        first, second, *messages = collect(events, 4)
        assert first == second == (uri, None)  # messages before the first one may be missing
        assert [message["sequence"] for _, message in messages[:2] if message] == [4, 5]


def test_a_missing_message_is_a_reason_to_read_the_node() -> None:
    def behave(connection: ServerConnection) -> None:
        send(connection, 1, 3)
        connection.recv()

    with subscription(behave) as (events, uri):
        received = collect(events, 4)
        assert [m and m["sequence"] for _, m in received[:4]] == [None, 1, None, 3]


def test_a_message_of_many_megabytes_is_received_and_the_connection_stays_open() -> None:
    def behave(connection: ServerConnection) -> None:
        send(connection, 1, 2, size=3_000_000)
        connection.recv()

    with subscription(behave) as (events, _):
        received = collect(events, 3)
        assert [len(m["payload"]) for _, m in received if m] == [3_000_000, 3_000_000]


def test_a_server_that_refuses_makes_it_read_the_node_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_tiled_events, "RETRY_INTERVAL", 0.05)

    def refuse(connection: ServerConnection, request: Any) -> Any:
        return connection.respond(HTTPStatus.INTERNAL_SERVER_ERROR, "no streaming cache\n")

    with subscription(lambda connection: None, refuse) as (events, uri):
        assert collect(events, 3)[:3] == [(uri, None)] * 3


@pytest.mark.parametrize("code", [1001, 1012])
def test_a_lost_connection_is_opened_again_and_one_that_ended_is_not(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_tiled_events, "RETRY_INTERVAL", 0.05)
    connections: list[ServerConnection] = []

    def behave(connection: ServerConnection) -> None:
        connections.append(connection)
        send(connection, len(connections))
        connection.close(code if len(connections) == 1 else 1000)

    with subscription(behave) as (events, _):
        received: list[Any] = []
        while CLOSED not in received:  # pytest-timeout ends it
            received += [message for _, message in events.wait(0.1) if message]
        assert [m.get("sequence") for m in received] == [1, 2, None]
        assert received[-1] is CLOSED and len(connections) == 2
