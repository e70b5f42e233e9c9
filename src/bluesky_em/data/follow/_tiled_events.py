"""Subscriptions to Tiled's node events, in order, which report gaps.

Why not Tiled's own `Subscription`: it waits for ever if the server refuses the connection, ends
permanently at a message over 1 MB, and does not report missed messages (Tiled 0.2.20). Here an
event is only a reason to read the catalog, which is the complete record.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from typing import Any

import msgpack
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedOK, WebSocketException
from websockets.frames import CloseCode

logger = logging.getLogger(__name__)

RETRY_INTERVAL = 1.0  # seconds until a lost, or refused, connection is tried again
CONNECT_TIMEOUT = 10.0  # seconds

TiledEvent = tuple[str, dict[str, Any] | None]
"""The node's URI and Tiled's message; None: messages may be missing, so read the node."""
CLOSED: dict[str, Any] = {"type": "closed"}
"""The last message of a node: its producer has closed it."""


class TiledEvents:
    """Receive the events of any number of nodes, in a thread.

    Args:
        api_key: of the server; None for a server that needs none.
    """

    def __init__(self, api_key: str | None):
        self._events: queue.SimpleQueue[TiledEvent] = queue.SimpleQueue()
        self._headers = {"Authorization": f"Apikey {api_key}"} if api_key else {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="Tiled events", daemon=True
        )
        self._thread.start()

    def subscribe(self, uri: str, *, from_start: bool = False) -> None:
        """Subscribe to a node; the first event, and the first after each gap, is to read it.

        Args:
            uri: of the node.
            from_start: also receive the earlier messages that the server still keeps.
        """
        if uri not in self._tasks:
            task = self._receive_always(uri, "&start=1" if from_start else "")
            self._tasks[uri] = asyncio.run_coroutine_threadsafe(task, self._loop)  # type: ignore

    def wait(self, timeout: float) -> list[TiledEvent]:
        """Return the events that have come; wait up to `timeout` s for the first."""
        events: list[TiledEvent] = []
        try:
            events.append(self._events.get(timeout=timeout))
            while True:
                events.append(self._events.get_nowait())
        except queue.Empty:
            return events

    def close(self) -> None:
        """Close the connections; closing twice is harmless."""
        if not self._loop.is_closed():
            asyncio.run_coroutine_threadsafe(self._cancel_all(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _cancel_all(self) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _receive_always(self, uri: str, start: str) -> None:
        address = uri.replace("http", "ws", 1).replace("/metadata", "/stream/single", 1)
        last_error = ""
        while True:
            try:
                async with connect(
                    f"{address}?envelope_format=msgpack{start}", additional_headers=self._headers,
                    max_size=None, open_timeout=CONNECT_TIMEOUT, proxy=None,
                ) as connection:  # fmt: skip
                    await self._receive(uri, connection)
            except ConnectionClosedOK as exc:
                if exc.rcvd is not None and exc.rcvd.code == CloseCode.NORMAL_CLOSURE:
                    self._events.put((uri, CLOSED))
                    return
            except (OSError, WebSocketException) as exc:
                if str(exc) != last_error:
                    last_error = str(exc)
                    logger.info("no events of %s, it is read instead: %s", uri, last_error)
            self._request_read(uri)
            await asyncio.sleep(RETRY_INTERVAL)

    async def _receive(self, uri: str, connection: ClientConnection) -> None:
        last = 0  # Tiled counts a node's messages from 1
        await connection.recv()  # the schema
        self._request_read(uri)
        # Tiled subscribes just after it has sent the schema: messages in between are lost
        late = self._loop.call_later(RETRY_INTERVAL, self._request_read, uri)
        while True:
            message = msgpack.unpackb(await connection.recv())
            late.cancel()  # from now on sequence numbers show whether messages are missing
            if message["sequence"] != last + 1:
                self._request_read(uri)
            last = message["sequence"]
            self._events.put((uri, message))

    def _request_read(self, uri: str) -> None:
        self._events.put((uri, None))
