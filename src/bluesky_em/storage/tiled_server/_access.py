"""Access control of the embedded Tiled server: several keys with different scopes.

Why not Tiled's own: its single-user mode has one key, which may delete; its multi-user mode needs
log-ins, roles and a second database. FastAPI allows a server's dependencies to be replaced, and
for every request Tiled asks two of them for the principal and its scopes. The key in Tiled's
configuration stays: it is random and given to no client, so a request that needs it is rejected.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from fastapi.security.utils import get_authorization_scheme_param
from starlette.requests import HTTPConnection
from tiled.server import authentication as tiled
from tiled.server.utils import API_KEY_COOKIE_NAME
from tiled.utils import SingleUserPrincipal

READER = frozenset({"read:metadata", "read:data"})
"""scopes of readers"""
WRITER = READER | {"create:node", "write:metadata", "write:data", "register"}
"""scopes of the feed, which adds and never deletes"""
ANALYST = READER | {"create:node", "write:metadata", "write:data"}
"""scopes of analysts, who register no files; where they hold says `RawIsReadOnly`"""

_WITHOUT_BODY = {"GET", "HEAD", "OPTIONS"}

_ApiKey = Annotated[str | None, Depends(tiled.get_api_key)]
_WebSocketKey = Annotated[str | None, Depends(tiled.get_api_key_websocket)]
_MovedKey = Annotated[None, Depends(tiled.move_api_key)]


def grant(app: FastAPI, keys: Mapping[str, frozenset[str]]) -> None:
    """Allow requests with one of `keys` within its scopes; reject all others."""

    def scopes_of(key: str | None) -> frozenset[str]:
        sent = (key or "").encode("utf-8", "replace")
        found = [scopes for k, scopes in keys.items() if secrets.compare_digest(k.encode(), sent)]
        return found[0] if found else frozenset()

    def reject_unknown(key: str | None) -> None:
        if key is not None and not scopes_of(key):
            raise HTTPException(401, "Invalid API key")

    async def scopes(key: _ApiKey) -> frozenset[str]:
        return scopes_of(key)

    async def scopes_websocket(key: _WebSocketKey) -> frozenset[str]:
        return scopes_of(key)

    async def principal(request: Request, key: _ApiKey, _: _MovedKey) -> None:
        reject_unknown(key)
        request.state.principal = None if key is None else SingleUserPrincipal  # for the log

    async def principal_websocket(key: _WebSocketKey) -> None:
        reject_unknown(key)

    app.dependency_overrides |= {
        tiled.get_current_scopes: scopes,
        tiled.get_current_scopes_websocket: scopes_websocket,
        tiled.get_current_principal: principal,
        tiled.get_current_principal_websocket: principal_websocket,
    }
    app.add_middleware(_RequireKey, is_known=lambda key: bool(scopes_of(key)))


class _RequireKey:
    """Rejects requests without a valid key before FastAPI reads the whole request body."""

    def __init__(self, app: Any, is_known: Callable[[str | None], bool]):
        self._app = app
        self._is_known = is_known

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        exempt = scope["type"] != "http" or scope["method"] in _WITHOUT_BODY
        if exempt or any(self._is_known(key) for key in _keys_in(HTTPConnection(scope))):
            await self._app(scope, receive, send)
        else:
            await JSONResponse({"detail": "Invalid API key"}, 401)(scope, receive, send)


def _keys_in(request: HTTPConnection) -> list[str | None]:
    """Return the keys from all places in which Tiled looks for one."""
    _, header = get_authorization_scheme_param(request.headers.get("authorization"))
    return [
        request.query_params.get("api_key"), header, request.cookies.get(API_KEY_COOKIE_NAME),
    ]  # fmt: skip
