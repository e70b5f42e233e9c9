"""The results published about a run, followed through Tiled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bluesky_em.files.results import RESULTS
from bluesky_em.files.tiled import results_container

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
        """Return the stream's node.

        Raises:
            KeyError: nothing has been published.
        """
        return results_container.child(self._client, results_container.path_about(self.run))

    def streams_in(self, node: Any) -> Mapping[str, Any]:
        """Return the node itself."""
        return {RESULTS: node}

    def _may_grow(self) -> bool:
        """Return whether the node is awaited; from then on, its own messages are."""
        return RESULTS not in self._streams

    def _update_from_container(self, message: Mapping[str, Any] | None) -> None:
        if message is None or message.get("key") == results_container.key_about(self.run):
            self.update(None)
