"""What each key may do at the embedded Tiled server.

Why not Tiled's own means: its single-user mode has one key, which may delete; its multi-user mode
wants log-ins, roles and a second database. FastAPI lets a server's dependencies be replaced, and
Tiled asks two of them for every request: who is it, and what may he do. The key of Tiled's
configuration stays in there, random and known to nobody: whatever asks for it is refused.
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
"""of those who look"""
WRITER = READER | {"create:node", "write:metadata", "write:data", "register"}
"""of the feed, which adds and never deletes"""
ANALYST = READER | {"create:node", "write:metadata", "write:data"}
"""of those who publish results; they register no files"""

_WITHOUT_BODY = {"GET", "HEAD", "OPTIONS"}

_Key = Annotated[str | None, Depends(tiled.get_api_key)]
_WebSocketKey = Annotated[str | None, Depends(tiled.get_api_key_websocket)]
_MovedKey = Annotated[None, Depends(tiled.move_api_key)]


def grant(app: FastAPI, keys: Mapping[str, frozenset[str]]) -> None:
    """Let in who has one of `keys`, to do what it is good for, and nobody else."""

    def scopes_of(key: str | None) -> frozenset[str]:
        given = (key or "").encode("utf-8", "replace")
        found = [scopes for k, scopes in keys.items() if secrets.compare_digest(k.encode(), given)]
        return found[0] if found else frozenset()

    def refuse_unknown(key: str | None) -> None:
        if key is not None and not scopes_of(key):
            raise HTTPException(401, "Invalid API key")

    async def scopes(key: _Key) -> frozenset[str]:
        return scopes_of(key)

    async def scopes_websocket(key: _WebSocketKey) -> frozenset[str]:
        return scopes_of(key)

    async def principal(request: Request, key: _Key, _: _MovedKey) -> None:
        refuse_unknown(key)
        request.state.principal = None if key is None else SingleUserPrincipal  # for the log

    async def principal_websocket(key: _WebSocketKey) -> None:
        refuse_unknown(key)

    app.dependency_overrides |= {
        tiled.get_current_scopes: scopes,
        tiled.get_current_scopes_websocket: scopes_websocket,
        tiled.get_current_principal: principal,
        tiled.get_current_principal_websocket: principal_websocket,
    }
    app.add_middleware(_RequireKey, knows=lambda key: bool(scopes_of(key)))


class _RequireKey:
    """Refuses whoever has no key before his body is read: FastAPI reads it first, all of it."""

    def __init__(self, app: Any, knows: Callable[[str | None], bool]):
        self._app = app
        self._knows = knows

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        known = scope["type"] != "http" or scope["method"] in _WITHOUT_BODY
        if known or any(self._knows(key) for key in _keys_in(HTTPConnection(scope))):
            await self._app(scope, receive, send)
        else:
            await JSONResponse({"detail": "Invalid API key"}, 401)(scope, receive, send)


def _keys_in(request: HTTPConnection) -> list[str | None]:
    """Give the keys wherever Tiled looks for one."""
    _, header = get_authorization_scheme_param(request.headers.get("authorization"))
    return [
        request.query_params.get("api_key"), header, request.cookies.get(API_KEY_COOKIE_NAME),
    ]  # fmt: skip
