"""The control PC's end of the line to an acquisition server.

A Pyro proxy belongs to one thread, and a call blocks that thread: so a link has *lanes*, each one
thread with one proxy. Exposures have a lane, settings another, and `abort` a third, so that
neither a long exposure nor a slow stage can stand in its way.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import Pyro5.api
import Pyro5.core
import Pyro5.errors

from .errors import ServerUnreachable

DEFAULT_TIMEOUT = 10.0  # seconds; every call has one
IDLE = 1.0  # seconds without a call, after which a connection is tried before it is used


class Line:
    """One blocking connection to an acquisition server; use it from one thread only.

    Args:
        uri: e.g. `PYRO:eels_server@gatan-pc:9091`.
        token: defaults to the environment's BLUESKY_EM_TOKEN.

    Raises:
        ValueError: `uri` is not a Pyro address with a host and a port.
    """

    def __init__(self, uri: str, *, token: str | None = None):
        self.uri = uri
        self.address = _address(uri)
        self._token = os.environ.get("BLUESKY_EM_TOKEN", "") if token is None else token
        self._proxy: Pyro5.api.Proxy | None = None
        self._last_answer = 0.0

    def call(self, method: str, *args: Any, timeout: float = DEFAULT_TIMEOUT) -> Any:
        """Ask the server and wait for its answer.

        Raises:
            ServerUnreachable: nobody answers at that address, or not within `timeout` seconds.
            Exception: whatever the server raised, e.g. ValueError for an illegal setting.
        """
        self._check_if_idle()
        proxy = self._connected()
        proxy._pyroTimeout = timeout
        try:
            answer = getattr(proxy, method)(*args)
        except Pyro5.errors.CommunicationError as exc:
            self.close()
            raise self._unreachable(method, timeout, exc) from exc
        self._last_answer = time.monotonic()
        return answer

    def close(self) -> None:
        """Hang up; the next call dials again."""
        if self._proxy is not None:
            self._proxy._pyroRelease()
            self._proxy = None

    def _check_if_idle(self) -> None:
        """Hang up on a server that has been started anew since the last call.

        Rather than asking again after a failure: an exposure must not happen twice.
        """
        if self._proxy is not None and time.monotonic() - self._last_answer > IDLE:
            try:
                self._proxy._pyroTimeout = DEFAULT_TIMEOUT
                self._proxy.ping()
            except Pyro5.errors.CommunicationError:
                self.close()

    def _connected(self) -> Pyro5.api.Proxy:
        if self._proxy is None:
            proxy = Pyro5.api.Proxy(self.uri)
            proxy._pyroSerializer = "msgpack"
            proxy._pyroHandshake = self._token
            proxy._pyroTimeout = DEFAULT_TIMEOUT
            try:
                proxy._pyroBind()
            except Pyro5.errors.CommunicationError as exc:
                raise self._unreachable("connect", DEFAULT_TIMEOUT, exc) from exc
            self._proxy = proxy
        return self._proxy

    def _unreachable(self, method: str, timeout: float, exc: Exception) -> ServerUnreachable:
        if "unknown object" in str(exc):
            return ServerUnreachable(
                f"A server answers at {self.address}, but it is not the one that {self.uri} names: "
                "are two ports exchanged in your devices/ file?"
            )
        if "rejected" in str(exc):  # by the server's handshake, which says why
            return ServerUnreachable(f"The acquisition server at {self.address} refused: {exc}")
        if isinstance(exc, Pyro5.errors.TimeoutError) and method != "connect":
            return ServerUnreachable(
                f"The acquisition server at {self.address} did not answer {method!r} within "
                f"{timeout:g} s: is the instrument busy with a long exposure, or waiting for "
                "somebody at its own screen?"
            )
        return ServerUnreachable(
            f"No acquisition server answers at {self.address} ({exc}). Is it running there? On "
            "that PC: `bluesky-em serve gatan` or `bluesky-em serve autoscript`; then check host "
            "and port in your devices/ file"
        )


class Link:
    """The lanes to one acquisition server, for use from an event loop."""

    def __init__(self, uri: str, *, token: str | None = None):
        self.uri = uri
        self._token = token
        self._lanes: dict[str, tuple[Line, ThreadPoolExecutor]] = {}

    async def call(
        self, method: str, *args: Any, lane: str = "settings", timeout: float = DEFAULT_TIMEOUT
    ) -> Any:
        """Ask the server without blocking the event loop; raises as `Line.call` does."""
        line, thread = self._lane(lane)
        return await asyncio.get_running_loop().run_in_executor(
            thread, lambda: line.call(method, *args, timeout=timeout)
        )

    def close(self) -> None:
        """Hang up; closing twice is harmless."""
        for line, thread in self._lanes.values():
            thread.submit(line.close)  # a proxy is released by the thread that owns it
            thread.shutdown()
        self._lanes.clear()

    def _lane(self, name: str) -> tuple[Line, ThreadPoolExecutor]:
        if name not in self._lanes:
            thread = ThreadPoolExecutor(1, thread_name_prefix=f"link-{name}-{self.uri}")
            self._lanes[name] = Line(self.uri, token=self._token), thread
        return self._lanes[name]


_links: dict[str, Link] = {}
_links_lock = threading.Lock()


def link_to(uri: str) -> Link:
    """Give the process's link to `uri`: devices on one server share its lanes.

    Sharing keeps their exposures in order, as the instrument would.
    """
    with _links_lock:
        return _links.setdefault(uri, Link(uri))


def close_links() -> None:
    """Hang up on all servers; devices of this process that are used later dial again."""
    with _links_lock:
        for link in _links.values():
            link.close()


def _address(uri: str) -> str:
    try:
        location = Pyro5.core.URI(uri).location
    except Pyro5.errors.PyroError:
        location = None
    if location is None:
        raise ValueError(
            f"{uri!r} is no address of an acquisition server; expected "
            "'PYRO:<name>@<host>:<port>', e.g. 'PYRO:eels_server@gatan-pc:9091'"
        )
    return location
