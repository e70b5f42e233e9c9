"""Tiled nodes that are created unless they exist."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import httpx
from tiled.client.utils import ClientError

from .columns import column_types
from .health import check_health
from .node_metadata import restore
from .renewal import RowsDiffer, renew, shorten

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

    def check(self) -> None:
        """Check that Tiled has the rows written in this attempt and no more, which are hidden.

        Raises:
            RowsDiffer: some are missing.
        """
        self._node.refresh()
        found = self._node.shape[0]
        if found > self._given:
            shorten(self._node, self._given)
        elif found < self._given:
            raise RowsDiffer(
                f"{self._node.uri}: {self._given} rows were acknowledged, Tiled has {found}; the "
                "missing ones are added"
            )


class RaggedRows:
    """A ragged array in Tiled, with a checksum of the rows written to it in this attempt."""

    def __init__(self, node: Any, rows: Any):
        self._node = node
        self._written = _checksum(rows)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    def patch(self, array: Any, offset: int, extend: bool) -> None:
        """Write rows at `offset`, which is the end."""
        self._node.patch(array, offset=offset, extend=extend)
        self._written = _checksum(array, self._written)

    def check(self) -> None:
        """Read the rows back, and check that they are those written in this attempt.

        Raises:
            RowsDiffer: they are not; the next attempt writes all.
        """
        try:
            found = _checksum(self._node.refresh().read())
        except (httpx.HTTPStatusError, ClientError):  # its table lacks some
            check_health(self._node)
            found = None
        if found != self._written:
            raise RowsDiffer(
                f"{self._node.uri}: Tiled has other rows than it acknowledged; the array is "
                "written again"
            )


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
        """Create the container `key`, or return the existing one, with the same metadata."""
        node = self._create(self._node.create_container, key, **kwargs)
        if key in self.found:
            restore(node, kwargs.get("metadata") or {})
        return IdempotentNode(node)

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

    def write_ragged(self, array: Any, key: str, **kwargs: Any) -> RaggedRows:
        """Write the ragged array `key`; one that exists loses its rows first.

        Its rows cannot be overwritten. Those of an earlier attempt cannot be relied on: some may be
        in Tiled's database and not in the array, and would come before the next ones.
        """
        try:
            return RaggedRows(self._node.write_ragged(array, key=key, **kwargs), array)
        except ClientError as exc:
            node = self._existing(key, exc)
        renew(node)
        node.patch(array, offset=0, extend=True)
        return RaggedRows(node, array)

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


def _checksum(rows: Any, start: int = 0) -> int:
    """Return the CRC-32 of a ragged array's rows, also if they come in several parts."""
    for row in rows.tolist():
        start = zlib.crc32(repr(row).encode(), start)
    return start
