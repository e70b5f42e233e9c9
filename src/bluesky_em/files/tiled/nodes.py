"""Tiled nodes that are created unless they exist."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
from tiled.client.utils import ClientError

from .columns import column_types
from .health import check_health
from .node_metadata import restore
from .renewal import RowsDiffer, renew, shorten
from .table_rows import is_same

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


class ReplayedRaggedRows(ReplayedRows):
    """Like `ReplayedRows`, for a ragged array: it cannot be overwritten, so old rows are kept.

    If they are not those of this attempt, the array is written again.
    """

    def patch(self, array: Any, offset: Any, extend: bool) -> None:
        """Append those of the rows from `offset` on that do not exist yet.

        Raises:
            RowsDiffer: the array had other rows. It has none now; the next attempt writes all.
        """
        existing = self._node.shape[0]
        known = min(len(array), max(0, existing - offset))
        if known and not self._has(array[:known], offset):
            self._renew("it has other rows than the journal")
        if offset + len(array) > existing:
            self._node.patch(array[known:], offset=existing, extend=extend)
        self._given = offset + len(array)

    def check(self) -> None:
        """Check that Tiled has as many rows as were written in this attempt.

        Raises:
            RowsDiffer: it has more or fewer. It has none now; the next attempt writes all.
        """
        self._node.refresh()
        if (found := self._node.shape[0]) != self._given:
            self._renew(f"{self._given} rows were acknowledged, Tiled has {found}")

    def _has(self, array: Any, offset: int) -> bool:
        try:
            found = self._node.read(slice(offset, offset + len(array)))
        except (httpx.HTTPStatusError, ClientError):  # its table lacks some
            check_health(self._node)
            return False
        return is_same(found.tolist(), array.tolist())

    def _renew(self, why: str) -> None:
        renew(self._node)
        raise RowsDiffer(f"{self._node.uri}: {why}; the array is written again")


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

    def write_ragged(self, array: Any, key: str, **kwargs: Any) -> ReplayedRaggedRows:
        """Write the ragged array `key`; if it exists, append the missing rows."""
        try:
            return ReplayedRaggedRows(self._node.write_ragged(array, key=key, **kwargs), len(array))
        except ClientError as exc:
            node = self._existing(key, exc)
        if node.shape[0]:  # else it was written again
            try:  # it may have been created and never written
                node.write(array[: node.shape[0]])
            except ClientError as exc:
                _expect_conflict(exc)
        rows = ReplayedRaggedRows(node)
        rows.patch(array, offset=0, extend=True)
        return rows

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
