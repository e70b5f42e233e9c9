"""The tables of a run's events in Tiled."""

from __future__ import annotations

from typing import Any

import pyarrow


class EventTables:
    """Appends the rows that the tables of earlier attempts lack, and counts all of them."""

    def __init__(self) -> None:
        self._tables: dict[str, Any] = {}
        self._found: dict[str, int] = {}
        self._given: dict[str, int] = {}

    def append(self, table: Any, rows: pyarrow.Table, *, is_new: bool = False) -> None:
        """Append the next rows of the run, but for those that the table has already.

        Args:
            table: in Tiled.
            rows: in the order of the events.
            is_new: the table cannot have rows.
        """
        uri = table.uri
        self._tables[uri] = table
        if uri not in self._found:
            self._found[uri] = 0 if is_new else _rows_of(table)
        given = self._given.get(uri, 0)
        self._given[uri] = given + rows.num_rows
        missing = rows.slice(max(0, self._found[uri] - given))
        if missing.num_rows:
            table.append_partition(0, missing)

    def check(self) -> None:
        """Count the rows in Tiled.

        Raises:
            RuntimeError: some that Tiled acknowledged are missing. (A Tiled 0.2.20 server other
                than the embedded one shares a DuckDB connection between threads: a read may roll
                an append back.)
        """
        for uri, table in self._tables.items():
            found, acknowledged = _rows_of(table), self._given[uri]
            if found < acknowledged:
                raise RuntimeError(
                    f"Tiled acknowledged {acknowledged} events of {uri}, but has {found}"
                )


def _rows_of(table: Any) -> int:
    """Return the number of a table's rows, reading one column only."""
    return len(table.read(table.columns[:1]))
