"""What Tiled says by itself of its nodes, in order, and when it may have said something unheard.

Why not Tiled's own `Subscription`: it waits for ever where the server refuses, ends for good at a
message over 1 MB, and says nothing of what it has missed (Tiled 0.2.20). Here news are only ever a
reason to look: the catalog is the record.
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

AGAIN = 1.0  # seconds until a line that was cut, or refused, is tried again; meanwhile: look
CONNECTING = 10.0  # seconds

TiledEvent = tuple[str, dict[str, Any] | None]
"""The node's URI, and Tiled's message; None: look for yourself."""
CLOSED: dict[str, Any] = {"type": "closed"}
"""The message that no more will come: the node's producer has said so."""


class TiledEvents:
    """Listens to any number of nodes, in a thread.

    Args:
        api_key: of the server; None for one that asks for none.
    """

    def __init__(self, api_key: str | None):
        self.news: queue.SimpleQueue[TiledEvent] = queue.SimpleQueue()
        self._headers = {"Authorization": f"Apikey {api_key}"} if api_key else {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="listener", daemon=True)
        self._thread.start()

    def listen(self, uri: str, *, from_start: bool = False) -> None:
        """Listen to a node; the first news of it is to look, and so it is after each gap.

        Args:
            uri: of the node.
            from_start: have said again what is still kept of what was said.
        """
        if uri not in self._tasks:
            task = self._listen(uri, "&start=1" if from_start else "")
            self._tasks[uri] = asyncio.run_coroutine_threadsafe(task, self._loop)  # type: ignore

    def wait(self, timeout: float) -> list[TiledEvent]:
        """Give what has come; wait up to `timeout` seconds for the first."""
        news: list[TiledEvent] = []
        try:
            news.append(self.news.get(timeout=timeout))
            while True:
                news.append(self.news.get_nowait())
        except queue.Empty:
            return news

    def close(self) -> None:
        """Hang up; closing twice is harmless."""
        if not self._loop.is_closed():
            asyncio.run_coroutine_threadsafe(self._hang_up(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _hang_up(self) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self, uri: str, start: str) -> None:
        address = uri.replace("http", "ws", 1).replace("/metadata", "/stream/single", 1)
        said = ""
        while True:
            try:
                async with connect(
                    f"{address}?envelope_format=msgpack{start}", additional_headers=self._headers,
                    max_size=None, open_timeout=CONNECTING, proxy=None,
                ) as line:  # fmt: skip
                    await self._hear(uri, line)
            except ConnectionClosedOK as exc:
                if exc.rcvd is not None and exc.rcvd.code == CloseCode.NORMAL_CLOSURE:
                    self.news.put((uri, CLOSED))
                    return
            except (OSError, WebSocketException) as exc:
                if str(exc) != said:
                    said = str(exc)
                    logger.info("no news of %s, it is looked at instead: %s", uri, said)
            self._look(uri)
            await asyncio.sleep(AGAIN)

    async def _hear(self, uri: str, line: ClientConnection) -> None:
        last = 0  # Tiled counts a node's messages from 1
        await line.recv()  # the schema
        self._look(uri)
        # Tiled begins to listen just after it has sent the schema: something may fall in between
        late = self._loop.call_later(AGAIN, self._look, uri)
        while True:
            message = msgpack.unpackb(await line.recv())
            late.cancel()  # whoever hears this can tell whether he has missed something
            if message["sequence"] != last + 1:
                self._look(uri)
            last = message["sequence"]
            self.news.put((uri, message))

    def _look(self, uri: str) -> None:
        self.news.put((uri, None))
