"""Runs in Tiled, as they begin."""

from __future__ import annotations

import time
from typing import Any

from bluesky_em.files.tiled import results_container
from bluesky_em.files.tiled.address import runs_of

from ._tiled_events import TiledEvents
from ._tiled_run import REREAD_INTERVAL


class TiledRuns:
    """The runs in Tiled, in the order in which they began; other nodes are skipped.

    Args:
        client: the catalog.
        known: number of its first nodes that are not returned.
        since: s since the epoch; of the nodes that exist now, earlier runs are left out.
    """

    def __init__(self, client: Any, known: int, since: float = 0.0):
        self._client = runs_of(client)
        self._events = TiledEvents(client.context.api_key)
        self._events.subscribe(client.uri.rstrip("/"))
        self._known = known
        self._since = since
        self._next_read = 0.0

    def collect(self, timeout: float) -> list[str]:
        """Return the uids of runs that have begun; wait up to `timeout` s for one.

        Raises:
            httpx.HTTPError: Tiled does not answer.
        """
        if self._events.wait(timeout):
            self._next_read = 0.0
        if time.monotonic() < self._next_read:
            return []
        nodes = list(self._client.items()[self._known :])
        self._next_read = time.monotonic() + REREAD_INTERVAL
        self._known += len(nodes)
        since, self._since = self._since, 0.0  # a clock may be late: later nodes are new runs
        starts = {
            uid: node.metadata["start"]
            for uid, node in nodes
            if "start" in node.metadata and uid != results_container.NAME
        }
        return [uid for uid, start in starts.items() if start.get("time", since) >= since]

    def close(self) -> None:
        """Close the connections; closing twice is harmless."""
        self._events.close()
