"""Tiled nodes that are found where they exist and made where they do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tiled.client.utils import ClientError

from ._columns import column_types

CONFLICT = 409  # HTTP status: there is a node of that name already


class FindOrMake:
    """A Tiled container whose making of children can be repeated.

    Everything else is the container's own. Needed since a writer that was killed, or whose
    request got no answer, cannot know which nodes exist.
    """

    def __init__(self, node: Any):
        self._node = node
        self.found: set[str] = set()
        """keys of the children that were there already"""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    @property
    def base(self) -> FindOrMake:
        """The same node without the `composite` view."""
        return FindOrMake(self._node.base)

    def create_container(self, key: str, **kwargs: Any) -> FindOrMake:
        """Make the container `key`, or give the one there is."""
        return FindOrMake(self._make(self._node.create_container, key, **kwargs))

    def create_appendable_table(self, schema: Any, key: str, **kwargs: Any) -> Any:
        """Make the table `key`, or give the one there is, with the rows it has."""
        schema = column_types(schema, kwargs.get("metadata", {}))
        return self._make(self._node.create_appendable_table, key, schema=schema, **kwargs)

    def new(self, key: str, **kwargs: Any) -> Any:
        """Make the node `key`, or give the one there is, with the rows it has."""
        return self._make(self._node.new, key, **kwargs)

    def write_array(self, array: Any, key: str, **kwargs: Any) -> Any:
        """Write the array `key`, or add to the one there is the rows it lacks."""
        try:
            return self._node.write_array(array, key=key, **kwargs)
        except ClientError as exc:
            node = self._existing(key, exc)
        there = node.shape[0]
        if len(array) > there:
            node.patch(array[there:], offset=(there,), extend=True)
        return node

    def _make(self, make: Callable[..., Any], key: str, **kwargs: Any) -> Any:
        try:
            return make(key=key, **kwargs)
        except ClientError as exc:
            return self._existing(key, exc)

    def _existing(self, key: str, exc: ClientError) -> Any:
        if exc.response.status_code != CONFLICT:
            raise exc
        self.found.add(key)
        return self._node[key]
