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

from bluesky_em.files.tiled.access_policy import READS, REGISTER

READER = READS
"""scopes of readers"""
WRITER = READER | {"create:node", "write:metadata", "write:data", REGISTER}
"""scopes of the feed, which adds and never deletes"""
ANALYST = READER | {"create:node", "write:metadata", "write:data"}
"""scopes of analysts, who register no files; where they hold says `RawIsReadOnly`"""

_WITHOUT_BODY = {"GET", "HEAD", "OPTIONS"}
_GRAPH = "/api/graphql"
"""Tiled's graph of entities, which can name runs: no policy protects it, nothing here uses it."""

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
    app.add_middleware(_RequireKey, scopes_of=scopes_of)


class _RequireKey:
    """Rejects requests without a valid key before FastAPI reads the whole request body."""

    def __init__(self, app: Any, scopes_of: Callable[[str | None], frozenset[str]]):
        self._app = app
        self._scopes_of = scopes_of

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] in _WITHOUT_BODY:
            await self._app(scope, receive, send)
            return
        found = [self._scopes_of(key) for key in _keys_in(HTTPConnection(scope))]
        if not any(found):
            await JSONResponse({"detail": "Invalid API key"}, 401)(scope, receive, send)
        elif scope["path"].startswith(_GRAPH) and not any(REGISTER in scopes for scopes in found):
            words = "Only the writer's key may change the graph of entities"
            await JSONResponse({"detail": words}, 403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _keys_in(request: HTTPConnection) -> list[str | None]:
    """Return the keys from all places in which Tiled looks for one."""
    _, header = get_authorization_scheme_param(request.headers.get("authorization"))
    return [
        request.query_params.get("api_key"), header, request.cookies.get(API_KEY_COOKIE_NAME),
    ]  # fmt: skip
