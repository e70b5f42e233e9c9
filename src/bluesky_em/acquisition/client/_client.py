"""Clients that call methods of a served object by name, blocking and for asyncio.

A call blocks its connection and its thread. So an `AsyncClient` has *channels*, each with a thread
and a connection of its own: exposures have one, settings another, `abort` a third. Neither a long
exposure nor a slow stage can delay an abort.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from Pyro5.errors import CommunicationError, ConnectionClosedError, ProtocolError, TimeoutError

from bluesky_em.errors import ServerUnreachable

from ..instrument_pc import credentials
from ._address import ServerAddress
from ._connection import Connection, Refused

Channel = Literal["settings", "exposure", "abort"]

DEFAULT_TIMEOUT = 10.0  # seconds; every call has a timeout
IDLE_LIMIT = 1.0  # seconds without a call, after which a connection is tested before it is used

_CHECK = (
    "Is it running there? On that PC: `bluesky-em serve gatan` or `bluesky-em serve autoscript`; "
    "then check host and port in your devices/ file"
)


class Client:
    """One blocking connection to a served object; use it from one thread only.

    Args:
        uri: e.g. `PYRO:eels_server@gatan-pc:9091`.
        token: defaults to the environment's BLUESKY_EM_TOKEN.

    Raises:
        ValueError: `uri` is not an address with a host and a port.
    """

    def __init__(self, uri: str, *, token: str | None = None):
        self.uri = uri
        self._address = ServerAddress.parse(uri)
        self.address = str(self._address)
        self._token = credentials.token() if token is None else token
        self._connection: Connection | None = None
        self._last_answer = 0.0

    def call(self, method: str, *args: Any, timeout: float = DEFAULT_TIMEOUT) -> Any:
        """Call a method of the server and wait for its answer.

        Raises:
            ServerUnreachable: no server answers at that address, or not within `timeout` seconds.
            Exception: whatever the server raised, e.g. ValueError for an illegal setting.
        """
        self._close_if_broken(min(timeout, DEFAULT_TIMEOUT))
        connection = self._connected(min(timeout, DEFAULT_TIMEOUT))
        try:
            answer = connection.call(method, args, timeout)
        except BaseException as exc:  # the next call must not receive this call's answer
            self.close()
            if isinstance(exc, CommunicationError):
                raise self._lost(method, timeout, exc) from exc
            raise
        self._last_answer = time.monotonic()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        """Close the connection; the next call opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _close_if_broken(self, timeout: float) -> None:
        """Test an idle connection: the server may have restarted, or closed it.

        A test before the call, not a second call after a failure: an exposure must not happen
        twice.
        """
        if self._connection is not None and time.monotonic() - self._last_answer > IDLE_LIMIT:
            try:
                self._connection.ping(timeout)
            except CommunicationError:
                self.close()

    def _connected(self, timeout: float) -> Connection:
        if self._connection is None:
            try:
                self._connection = Connection(self._address, self._token, timeout)
            except (OSError, CommunicationError) as exc:
                raise ServerUnreachable(self._why_not_connected(exc)) from exc
        return self._connection

    def _lost(self, method: str, timeout: float, exc: CommunicationError) -> ServerUnreachable:
        if isinstance(exc, TimeoutError):
            return ServerUnreachable(
                f"The acquisition server at {self.address} did not answer {method!r} within "
                f"{timeout:g} s: is the instrument busy with a long exposure, or does a dialog "
                "on its screen wait for an answer?"
            )
        return ServerUnreachable(
            f"The connection to the acquisition server at {self.address} was lost during "
            f"{method!r} ({exc}). {_CHECK}"
        )

    def _why_not_connected(self, exc: Exception) -> str:
        """Return why no connection could be opened, and what to do."""
        at = f"at {self.address}"
        if isinstance(exc, Refused):
            if "unknown object" in str(exc):
                return (
                    f"A server answers {at}, but it is not the one that {self.uri} names: "
                    "are two ports exchanged in your devices/ file?"
                )
            return f"The acquisition server {at} refused: {exc}"
        if isinstance(exc, ssl.SSLCertVerificationError):
            return (
                f"The server {at} cannot prove that it is {self._address.host}: "
                f"{exc.verify_message}. The file in BLUESKY_EM_TLS_CA must have the certificate "
                "of that PC, and the certificate the name that is in your devices/ file"
            )
        if isinstance(exc, ssl.SSLError):
            return (
                f"The server {at} does not speak TLS ({exc.reason}), but BLUESKY_EM_TLS_CA "
                "is set on this PC: set BLUESKY_EM_TLS_CERT and BLUESKY_EM_TLS_KEY on that one"
            )
        if isinstance(exc, socket.gaierror):
            return f"There is no computer named {self._address.host!r}: check your devices/ file"
        if isinstance(exc, (ConnectionClosedError, ProtocolError, ConnectionResetError)):
            return (
                f"The server {at} closed the connection, or speaks another protocol ({exc}): does "
                "it demand TLS (BLUESKY_EM_TLS_CA on this PC), or is another program at that port?"
            )
        return f"No acquisition server answers {at} ({exc}). {_CHECK}"


class AsyncClient:
    """A client for use from an event loop: one thread and one connection per channel.

    Args:
        uri: e.g. `PYRO:eels_server@gatan-pc:9091`.
    """

    def __init__(self, uri: str):
        self.uri = uri
        self._channels: dict[Channel, tuple[Client, ThreadPoolExecutor]] = {}

    async def call(
        self,
        method: str,
        *args: Any,
        channel: Channel = "settings",
        timeout: float = DEFAULT_TIMEOUT,
    ) -> Any:
        """Call a method without blocking the event loop; raises as `Client.call` does."""
        client, thread = self._channel(channel)
        return await asyncio.get_running_loop().run_in_executor(
            thread, lambda: client.call(method, *args, timeout=timeout)
        )

    def close(self) -> None:
        """Close all connections; closing twice is harmless, and the next call opens them again."""
        for client, thread in self._channels.values():
            thread.submit(client.close)  # after the call that may be running
            thread.shutdown()
        self._channels.clear()

    def _channel(self, name: Channel) -> tuple[Client, ThreadPoolExecutor]:
        if name not in self._channels:
            thread = ThreadPoolExecutor(1, thread_name_prefix=f"client-{name}-{self.uri}")
            self._channels[name] = Client(self.uri), thread
        return self._channels[name]
