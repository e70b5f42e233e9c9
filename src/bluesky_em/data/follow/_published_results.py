"""The results published about a run, followed through Tiled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bluesky_em.files.results import RESULTS
from bluesky_em.files.tiled import results_container
from bluesky_em.files.tiled.address import plain

from ._tiled_run import TiledRun


class PublishedResults(TiledRun):
    """The stream of results of one run as it grows; the first result creates its node.

    Args:
        client: the catalog, with data sources.
        run: its uid.
    """

    def __init__(self, client: Any, run: str):
        super().__init__(client, run, (RESULTS,), patience=0.0)

    def subscribe_run(self) -> None:
        """Wait for the messages of the container: one comes when the node is created in it."""
        place = f"{self._client.uri.rstrip('/')}/{results_container.NAME}"
        self.subscribe(place, self._update_from_container)

    def find(self) -> Any:
        """Return the node for what is published about the run.

        Raises:
            KeyError: nothing has been published.
        """
        return plain(results_container.child(self._client, results_container.path_of(self.run)))

    def _update_from_container(self, message: Mapping[str, Any] | None) -> None:
        if message is None or message.get("key") == self.run:
            self.update(None)
