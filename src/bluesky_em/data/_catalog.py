"""The Tiled client of a `Data`, connected on first use."""

from __future__ import annotations

import time
from typing import Any

from bluesky_em.errors import NotReady
from bluesky_em.files.layout import Layout
from bluesky_em.files.tiled.address import address_of, last_address, why_not_ready

from ._tiled_connection import connect

SERVER_START_TIMEOUT = 180.0  # seconds; a Tiled server needs 10-15, minutes on a busy computer


class Catalog:
    """Connect to a Tiled server: a given one, or the embedded one of a storage folder.

    Args:
        uri: address of the server; None: the embedded one.
        api_key: its key; None: from the environment, or the embedded server's.
        layout: the storage folder; needed without `uri`.
        timeout: in which the server must answer a request, s.
    """

    def __init__(
        self, uri: str | None, api_key: str | None, layout: Layout | None, timeout: float
    ):  # fmt: skip
        self._uri = uri
        self._api_key = api_key
        self._layout = layout
        self._timeout = timeout
        self._client: Any = None

    def connect(self) -> Any:
        """Return the client; wait until an embedded server has started.

        Raises:
            NotReady: the embedded server has not started within 180 s, or cannot start.
            TiledUnreachable: the server does not answer.
            TiledFailed: it answers with an error of its own.
            TiledRefused: it refuses the key.
        """
        if self._client is None:
            self._client = self._connect()
        return self._client

    def connect_now(self) -> Any:
        """Return the client, without waiting for an embedded server.

        Raises:
            ConnectionError: the embedded server is not ready.
        """
        if self._client is None and self._uri is None:
            assert self._layout is not None
            if address_of(self._layout) is None:
                raise ConnectionError(f"{why_not_ready(self._layout)} ({self._layout.root})")
        return self.connect()

    def close(self) -> None:
        """Close the connection; closing twice is harmless."""
        client, self._client = self._client, None
        if client is not None:
            client.context.close()

    def _connect(self) -> Any:
        if self._uri is not None:
            return connect(self._uri, self._api_key, self._timeout)
        assert self._layout is not None
        deadline = time.monotonic() + SERVER_START_TIMEOUT
        while (address := address_of(self._layout)) is None:
            last = last_address(self._layout)
            if last is not None and last.final:
                raise NotReady(why_not_ready(self._layout))
            if time.monotonic() >= deadline:
                raise NotReady(
                    f"{why_not_ready(self._layout)}. Its start was awaited for "
                    f"{SERVER_START_TIMEOUT:g} s: is a Storage open on {self._layout.root}? Its "
                    f"log: {self._layout.catalog / 'server.log'}"
                )
            time.sleep(0.1)
        return connect(address.uri, address.api_key, self._timeout)
