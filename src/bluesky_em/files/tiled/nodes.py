"""Tiled nodes that are found where they exist and made where they do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tiled.client.utils import ClientError

from .columns import column_types

CONFLICT = 409  # HTTP status: there is a node of that name already


class ReplayedRows:
    """A Tiled array whose length is that of the rows given in this attempt.

    There may be more: an earlier attempt's. Who appends at `shape[0]` writes over those, with the
    same values, and over rows that were made and never filled.
    """

    def __init__(self, node: Any, given: int = 0):
        self._node = node
        self._given = given

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of what was given."""
        return (self._given, *self._node.shape[1:])

    def patch(self, array: Any, offset: tuple[int, ...], extend: bool) -> None:
        """Write rows at `offset`."""
        self._node.patch(array.astype(self._node.dtype), offset=offset, extend=extend)
        self._given = offset[0] + len(array)


class GivenRaggedRows(ReplayedRows):
    """The same of a ragged array, which cannot be written over: rows that are there are left."""

    def patch(self, array: Any, offset: Any, extend: bool) -> None:
        """Append the rows that are not there, of those that begin at `offset`."""
        there = self._node.shape[0]
        if offset + len(array) > there:
            self._node.patch(array[max(0, there - offset) :], offset=there, extend=extend)
        self._given = offset + len(array)


class IdempotentNode:
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
    def base(self) -> IdempotentNode:
        """The same node without the `composite` view."""
        return IdempotentNode(self._node.base)

    def create_container(self, key: str, **kwargs: Any) -> IdempotentNode:
        """Make the container `key`, or give the one there is."""
        return IdempotentNode(self._make(self._node.create_container, key, **kwargs))

    def create_appendable_table(self, schema: Any, key: str, **kwargs: Any) -> Any:
        """Make the table `key`, or give the one there is, with the rows it has."""
        schema = column_types(schema, kwargs.get("metadata", {}))
        return self._make(self._node.create_appendable_table, key, schema=schema, **kwargs)

    def new(self, key: str, **kwargs: Any) -> Any:
        """Make the node `key`, or give the one there is, with the rows it has."""
        return self._make(self._node.new, key, **kwargs)

    def write_array(self, array: Any, key: str, **kwargs: Any) -> ReplayedRows:
        """Write the array `key`, or write its first rows anew in the one there is."""
        try:
            return ReplayedRows(self._node.write_array(array, key=key, **kwargs), len(array))
        except ClientError as exc:
            rows = ReplayedRows(self._existing(key, exc))
        rows.patch(array, offset=(0,), extend=True)
        return rows

    def write_ragged(self, array: Any, key: str, **kwargs: Any) -> GivenRaggedRows:
        """Write the ragged array `key`, or add to the one there is the rows it lacks."""
        try:
            return GivenRaggedRows(self._node.write_ragged(array, key=key, **kwargs), len(array))
        except ClientError as exc:
            node = self._existing(key, exc)
        try:  # was it made and never filled?
            node.write(array[: node.shape[0]])
        except ClientError as exc:
            _expect_conflict(exc)
        rows = GivenRaggedRows(node)
        rows.patch(array, offset=0, extend=True)
        return rows

    def _make(self, make: Callable[..., Any], key: str, **kwargs: Any) -> Any:
        try:
            return make(key=key, **kwargs)
        except ClientError as exc:
            return self._existing(key, exc)

    def _existing(self, key: str, exc: ClientError) -> Any:
        _expect_conflict(exc)
        self.found.add(key)
        return self._node[key]


def _expect_conflict(exc: ClientError) -> None:
    if exc.response.status_code != CONFLICT:
        raise exc
