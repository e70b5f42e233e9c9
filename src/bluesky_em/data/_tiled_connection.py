"""The connection of a `Data` to Tiled: each request is answered in time, or the error says why not.

Tiled's own client sends a request again for up to 45 s, and then raises an error of httpx. Here
the caller decides how long to wait.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import httpx
import msgpack
import stamina

from bluesky_em.errors import TiledFailed, TiledRefused, TiledUnreachable

ATTEMPTS = 3  # of a reading request: an idle connection may have been closed at the other end
SHORTEST_TIMEOUT = 0.5  # seconds; also who does not wait asks once
RETRY_INTERVAL = 1.0  # seconds at most, while the server is away
REFUSALS = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)
TROUBLE = (ConnectionError, TiledFailed)
"""errors while the server is away"""
MSGPACK = "application/x-msgpack"  # Tiled's own answers; pixels and tables have other types

T = TypeVar("T")

_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)


@contextmanager
def answers_until(deadline: float) -> Iterator[None]:
    """Limit the requests of this block to a time of `time.monotonic()`."""
    token = _deadline.set(min(deadline, _deadline.get()))
    try:
        yield
    finally:
        _deadline.reset(token)


def ask_until(
    deadline: float, question: Callable[[], T], *, on: tuple[type[Exception], ...] = TROUBLE
) -> T:
    """Return the answer to a question; while Tiled is away, ask again until the deadline.

    Raises:
        TiledUnreachable: Tiled is still away.
        TiledFailed: it still answers with an error.
        ConnectionError: the embedded server has not started.
    """
    left = max(deadline - time.monotonic(), SHORTEST_TIMEOUT)
    ask = stamina.retry(
        on=on, attempts=None, timeout=left, wait_max=RETRY_INTERVAL, wait_jitter=0.1
    )(question)
    with answers_until(deadline):
        return ask()


def connect(uri: str, api_key: str | None, timeout: float) -> Any:
    """Return Tiled's client of a server.

    Args:
        uri: of the server, or of a node in it.
        api_key: None: the environment's TILED_API_KEY.
        timeout: in which it must answer each request, s.

    Raises:
        TiledUnreachable: it does not answer, or is no Tiled server.
        TiledFailed: it answers with an error of its own.
        TiledRefused: it refuses the key, or needs one.
    """
    from tiled.client.constructors import from_context  # takes seconds: only when it is needed
    from tiled.client.context import Context
    from tiled.client.transport import Transport

    with TiledConnection(timeout=timeout, follow_redirects=True) as probe:
        probe.get(_api(uri), headers={"Accept": MSGPACK})
    context, path = Context.from_any_uri(uri, api_key=api_key)
    before: Any = context.http_client
    context.http_client = TiledConnection(
        transport=Transport(), timeout=timeout, follow_redirects=True, headers=before.headers,
        cookies=before.cookies, auth=before.auth,
    )  # fmt: skip
    before.close()
    try:
        authentication = context.server_info.authentication
        if authentication.required and not (authentication.providers or context.authenticated):
            raise TiledRefused(
                f"Tiled at {uri} needs a key: Data(..., api_key=…), or the environment's "
                "TILED_API_KEY"
            )
        return from_context(context, node_path_parts=path)
    except BaseException:
        context.close()
        raise


def _may_be_sent_again(exc: Exception) -> bool:
    """Return whether the next try may succeed at once; a server that was slow would be again."""
    lost = isinstance(exc, httpx.TransportError) and not isinstance(exc, httpx.TimeoutException)
    return lost or isinstance(exc, httpx.HTTPStatusError)


class TiledConnection(httpx.Client):
    """Send requests to Tiled, each with a limit of time.

    Args:
        timeout: in which the server must answer, s.
    """

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """Send a request, and read requests again if the connection is lost.

        Raises:
            TiledUnreachable: there is no answer in time, or what answers is not Tiled.
            TiledFailed: the answer is an error of the server.
            TiledRefused: the key is wrong, or may not read this.
        """
        is_read = request.method in ("GET", "HEAD")
        send = self._send_repeatedly if is_read else self._send_once
        try:
            response = send(request, **options)
        except (httpx.TransportError, httpx.HTTPStatusError) as exc:
            raise _in_words(request, exc) from exc
        if is_read and response.status_code in REFUSALS:
            response.close()
            raise TiledRefused(
                f"Tiled at {_server(request)} refuses the key ({response.status_code} for "
                f"{request.url.path}): give one that may read this, Data(..., api_key=…)"
            )
        return response

    @stamina.retry(
        on=_may_be_sent_again, attempts=ATTEMPTS, timeout=None,
        wait_initial=0.05, wait_max=0.2, wait_jitter=0.05,
    )  # fmt: skip
    def _send_repeatedly(self, request: httpx.Request, **options: Any) -> httpx.Response:
        return self._send_once(request, **options)

    def _send_once(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """Send a request; a server's error, and an answer that Tiled does not give, raise."""
        left = max(_deadline.get() - time.monotonic(), SHORTEST_TIMEOUT)
        limits = request.extensions.get("timeout", {})
        request.extensions["timeout"] = {
            name: left if most is None else min(most, left) for name, most in limits.items()
        }
        response = super().send(request, **options)
        if response.is_server_error:
            response.close()
            response.raise_for_status()
        if response.status_code == httpx.codes.OK and request.headers.get("Accept") == MSGPACK:
            _check(response)
        return response


def _check(response: httpx.Response) -> None:
    """Raise unless the body is what Tiled answers: a mapping in msgpack."""
    try:
        if isinstance(msgpack.unpackb(response.read(), timestamp=3), dict):
            return
    except ValueError:
        pass
    kind = response.headers.get("Content-Type", "no content type")
    raise httpx.RemoteProtocolError(f"what answers is no Tiled server ({kind})")


def _in_words(request: httpx.Request, exc: httpx.HTTPError) -> TiledUnreachable | TiledFailed:
    tiled = f"Tiled at {_server(request)}"
    if isinstance(exc, httpx.TimeoutException):
        seconds = max(request.extensions["timeout"].values())
        return TiledUnreachable(f"{tiled} has not answered within {seconds:.3g} s. Is it busy?")
    if not isinstance(exc, httpx.HTTPStatusError):
        return TiledUnreachable(
            f"{tiled} does not answer: {exc}. Does it run? Is this its address?"
        )
    status = f"{exc.response.status_code} {exc.response.reason_phrase}"
    text = f"{tiled} answers {status!r} for {request.url.path}; its log says why"
    is_away = (
        exc.response.status_code != httpx.codes.INTERNAL_SERVER_ERROR
    )  # a proxy's words: 502, 503, 504
    return TiledUnreachable(text) if is_away else TiledFailed(text)


def _server(request: httpx.Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc.decode()}"


def _api(uri: str) -> httpx.URL:
    """Return the address of the API's first page, as `Context.from_any_uri` finds it."""
    url = httpx.URL(uri)
    path = url.path.partition("/metadata")[0].rstrip("/")
    if "/api" not in path:
        path += "/api"
    return url.copy_with(path=path if "/v1" in path else f"{path}/v1", query=None)
