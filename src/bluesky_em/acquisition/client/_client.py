"""The control PC's end of the line to an acquisition server.

A call blocks its connection and its thread: so a link has *lanes*, each one thread with one line.
Exposures have a lane, settings another, and `abort` a third, so that neither a long exposure nor a
slow stage can stand in its way.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from Pyro5.errors import CommunicationError, ConnectionClosedError, ProtocolError, TimeoutError

from bluesky_em.errors import ServerUnreachable

from ..instrument_pc import credentials
from ._address import ServerAddress
from ._connection import Connection, Refused

DEFAULT_TIMEOUT = 10.0  # seconds; every call has one
IDLE = 1.0  # seconds without a call, after which a connection is tried before it is used

_CHECK = (
    "Is it running there? On that PC: `bluesky-em serve gatan` or `bluesky-em serve autoscript`; "
    "then check host and port in your devices/ file"
)


class Client:
    """One blocking connection to an acquisition server; use it from one thread only.

    Args:
        uri: e.g. `PYRO:eels_server@gatan-pc:9091`.
        token: defaults to the environment's BLUESKY_EM_TOKEN.

    Raises:
        ValueError: `uri` is no address with a host and a port.
    """

    def __init__(self, uri: str, *, token: str | None = None):
        self.uri = uri
        self._address = ServerAddress.parse(uri)
        self.address = str(self._address)
        self._token = credentials.token() if token is None else token
        self._caller: Connection | None = None
        self._last_answer = 0.0

    def call(self, method: str, *args: Any, timeout: float = DEFAULT_TIMEOUT) -> Any:
        """Ask the server and wait for its answer.

        Raises:
            ServerUnreachable: nobody answers at that address, or not within `timeout` seconds.
            Exception: whatever the server raised, e.g. ValueError for an illegal setting.
        """
        self._check_if_idle()
        caller = self._connected(min(timeout, DEFAULT_TIMEOUT))
        try:
            answer = caller.call(method, args, timeout)
        except BaseException as exc:  # its answer must not be taken for the next call's
            self.close()
            if isinstance(exc, CommunicationError):
                raise self._lost(method, timeout, exc) from exc
            raise
        self._last_answer = time.monotonic()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        """Hang up; the next call dials again."""
        if self._caller is not None:
            self._caller.close()
            self._caller = None

    def _check_if_idle(self) -> None:
        """Hang up on a server that has been started anew since the last call, or has hung up.

        Rather than asking again after a failure: an exposure must not happen twice.
        """
        if self._caller is not None and time.monotonic() - self._last_answer > IDLE:
            try:
                self._caller.ping(DEFAULT_TIMEOUT)
            except CommunicationError:
                self.close()

    def _connected(self, timeout: float) -> Connection:
        if self._caller is None:
            try:
                self._caller = Connection(self._address, self._token, timeout)
            except (OSError, CommunicationError) as exc:
                raise ServerUnreachable(self._why_not(exc)) from exc
        return self._caller

    def _lost(self, method: str, timeout: float, exc: CommunicationError) -> ServerUnreachable:
        if isinstance(exc, TimeoutError):
            return ServerUnreachable(
                f"The acquisition server at {self.address} did not answer {method!r} within "
                f"{timeout:g} s: is the instrument busy with a long exposure, or waiting for "
                "somebody at its own screen?"
            )
        return ServerUnreachable(
            f"The connection to the acquisition server at {self.address} was lost during "
            f"{method!r} ({exc}). {_CHECK}"
        )

    def _why_not(self, exc: Exception) -> str:
        """Say what is the matter with a connection that could not be made, and what to do."""
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
                f"What answers {at} cannot prove that it is {self._address.host}: "
                f"{exc.verify_message}. The file in BLUESKY_EM_TLS_CA must have the certificate "
                "of that PC, and that the name in your devices/ file"
            )
        if isinstance(exc, ssl.SSLError):
            return (
                f"What answers {at} does not speak TLS ({exc.reason}), though BLUESKY_EM_TLS_CA "
                "is set here: set BLUESKY_EM_TLS_CERT and BLUESKY_EM_TLS_KEY there"
            )
        if isinstance(exc, socket.gaierror):
            return f"There is no computer named {self._address.host!r}: check your devices/ file"
        if isinstance(exc, (ConnectionClosedError, ProtocolError, ConnectionResetError)):
            return (
                f"What answers {at} hung up, or does not speak our language ({exc}): does it "
                "demand TLS (BLUESKY_EM_TLS_CA here), or is something else at that port?"
            )
        return f"No acquisition server answers {at} ({exc}). {_CHECK}"


class AsyncClient:
    """The lanes to one acquisition server, for use from an event loop."""

    def __init__(self, uri: str, *, token: str | None = None):
        self.uri = uri
        self._token = token
        self._lanes: dict[str, tuple[Client, ThreadPoolExecutor]] = {}

    async def call(
        self, method: str, *args: Any, lane: str = "settings", timeout: float = DEFAULT_TIMEOUT
    ) -> Any:
        """Ask the server without blocking the event loop; raises as `Client.call` does."""
        line, thread = self._lane(lane)
        return await asyncio.get_running_loop().run_in_executor(
            thread, lambda: line.call(method, *args, timeout=timeout)
        )

    def close(self) -> None:
        """Hang up; closing twice is harmless."""
        for line, thread in self._lanes.values():
            thread.submit(line.close)  # after the call that may be under way
            thread.shutdown()
        self._lanes.clear()

    def _lane(self, name: str) -> tuple[Client, ThreadPoolExecutor]:
        if name not in self._lanes:
            thread = ThreadPoolExecutor(1, thread_name_prefix=f"link-{name}-{self.uri}")
            self._lanes[name] = Client(self.uri, token=self._token), thread
        return self._lanes[name]


_links: dict[str, AsyncClient] = {}
_links_lock = threading.Lock()


def client_for(uri: str) -> AsyncClient:
    """Give the process's link to `uri`: devices on one server share its lanes.

    Sharing keeps their exposures in order, as the instrument would.
    """
    with _links_lock:
        return _links.setdefault(uri, AsyncClient(uri))


def close_all() -> None:
    """Hang up on all servers; devices of this process that are used later dial again."""
    with _links_lock:
        for link in _links.values():
            link.close()
