"""A stream's node in Tiled, for the keys that a later descriptor adds."""

from __future__ import annotations

from typing import Any


class LaterNode:
    """The stream's node as the run writer needs it for one group of keys: with its own table.

    Args:
        node: the stream's node.
        number: of the group, from 1.
    """

    def __init__(self, node: Any, number: int):
        self._node = node
        self._number = number

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    @property
    def item(self) -> dict[str, Any]:
        """Under this `id` the run writer remembers the group's nodes; no stream has a `/`."""
        return {**self._node.item, "id": f"{self._node.item['id']}/{self._number}"}

    def create_appendable_table(self, schema: Any, key: str, **kwargs: Any) -> Any:
        """Create the group's table, or return the existing one with its rows."""
        return self._node.create_appendable_table(schema, f"{key}_later_{self._number}", **kwargs)
