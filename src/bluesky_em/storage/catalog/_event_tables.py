"""The tables of a run's events in Tiled."""

from __future__ import annotations

from typing import Any

import pyarrow

from ._event_table import EventTable


class EventTables:
    """Passes rows on to the tables that they belong in, and checks all of these."""

    def __init__(self) -> None:
        self._tables: dict[str, EventTable] = {}

    def append(self, table: Any, rows: pyarrow.Table, *, is_new: bool = False) -> None:
        """Append the next rows of the run, as `EventTable.append` does.

        Args:
            table: in Tiled.
            rows: in the order of the events.
            is_new: the table cannot have rows.
        """
        uri = table.uri
        if uri not in self._tables:
            self._tables[uri] = EventTable(table, is_new=is_new)
        self._tables[uri].append(rows)

    @property
    def summaries(self) -> dict[str, dict[str, int]]:
        """Which rows each table has, by `<stream>/<name of the table>`."""
        return {
            "/".join(uri.rsplit("/", 2)[1:]): table.summary
            for uri, table in sorted(self._tables.items())
        }

    def check(self) -> None:
        """Read back which rows Tiled has, as `EventTable.check` does."""
        for table in self._tables.values():
            table.check()
