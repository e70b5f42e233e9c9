"""The health page of a Tiled server, which tells an outage from an error of one request."""

from __future__ import annotations

from typing import Any

import httpx


def check_health(client: Any) -> None:
    """Ask Tiled's health page, which needs neither catalog nor key.

    Tiled closes a connection after an internal error, so the first request may only find that out.
    After this one the client has a connection that works.

    Raises:
        httpx.HTTPError: Tiled does not answer, or refuses that page, too.
    """
    http = client.context.http_client
    page = f"{str(client.context.api_uri).rpartition('/api/')[0]}/healthz"
    try:
        answer = http.get(page)
    except httpx.TransportError:
        answer = http.get(page)
    answer.raise_for_status()
