"""Tiled nodes that are created unless they exist."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tiled.client.utils import ClientError

from .columns import column_types
from .renewal import renew

CONFLICT = 409  # HTTP status: a node of that name exists


class ReplayedRows:
    """A Tiled array whose length is the number of rows written in this attempt.

    The array may have more rows, from an earlier attempt. Appending at `shape[0]` overwrites them
    with the same values, and fills rows that were created and never written.
    """

    def __init__(self, node: Any, given: int = 0):
        self._node = node
        self._given = given

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the rows written in this attempt."""
        return (self._given, *self._node.shape[1:])

    def patch(self, array: Any, offset: tuple[int, ...], extend: bool) -> None:
        """Write rows at `offset`."""
        self._node.patch(array.astype(self._node.dtype), offset=offset, extend=extend)
        self._given = offset[0] + len(array)


class IdempotentNode:
    """A Tiled container in which creating a child can be repeated.

    All else is passed to the container. A writer that was killed, or that got no answer to its
    request, cannot know which nodes exist.
    """

    def __init__(self, node: Any):
        self._node = node
        self.found: set[str] = set()
        """keys of the children that existed already"""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    @property
    def base(self) -> IdempotentNode:
        """The same node without the `composite` view."""
        return IdempotentNode(self._node.base)

    def create_container(self, key: str, **kwargs: Any) -> IdempotentNode:
        """Create the container `key`, or return the existing one."""
        return IdempotentNode(self._create(self._node.create_container, key, **kwargs))

    def create_appendable_table(self, schema: Any, key: str, **kwargs: Any) -> Any:
        """Create the table `key`, or return the existing one with its rows."""
        schema = column_types(schema, kwargs.get("metadata", {}))
        return self._create(self._node.create_appendable_table, key, schema=schema, **kwargs)

    def new(self, key: str, **kwargs: Any) -> Any:
        """Create the node `key`, or return the existing one with its rows."""
        return self._create(self._node.new, key, **kwargs)

    def write_array(self, array: Any, key: str, **kwargs: Any) -> ReplayedRows:
        """Write the array `key`; if it exists, overwrite its first rows."""
        try:
            return ReplayedRows(self._node.write_array(array, key=key, **kwargs), len(array))
        except ClientError as exc:
            rows = ReplayedRows(self._existing(key, exc))
        rows.patch(array, offset=(0,), extend=True)
        return rows

    def write_ragged(self, array: Any, key: str, **kwargs: Any) -> Any:
        """Write the ragged array `key`; one that exists loses its rows first.

        Its rows cannot be overwritten. Those of an earlier attempt cannot be relied on: some may be
        in Tiled's database and not in the array, and would come before the next ones.
        """
        try:
            return self._node.write_ragged(array, key=key, **kwargs)
        except ClientError as exc:
            node = self._existing(key, exc)
        renew(node)
        node.patch(array, offset=0, extend=True)
        return node

    def _create(self, create: Callable[..., Any], key: str, **kwargs: Any) -> Any:
        try:
            return create(key=key, **kwargs)
        except ClientError as exc:
            return self._existing(key, exc)

    def _existing(self, key: str, exc: ClientError) -> Any:
        _expect_conflict(exc)
        self.found.add(key)
        return self._node[key]


def _expect_conflict(exc: ClientError) -> None:
    if exc.response.status_code != CONFLICT:
        raise exc
