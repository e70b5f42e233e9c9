"""One table of a run's events in Tiled."""

from __future__ import annotations

import zlib
from collections import Counter
from typing import Any

import pyarrow

from bluesky_em.files.tiled.renewal import RowsDiffer, renew
from bluesky_em.files.tiled.table_rows import differing, read

_NUMBER = "seq_num"
_LISTED = 10  # numbers of events in a message


class EventTable:
    """Appends the rows that the table of an earlier attempt lacks, and checks which it has.

    A row is identified by its place and its sequence number; in a table without that column, by all
    of its values. The rows of an earlier attempt must be the first ones of this attempt, value by
    value. If they are not, the table is written again.

    Args:
        table: in Tiled.
        is_new: it cannot have rows.
    """

    def __init__(self, table: Any, *, is_new: bool):
        self._table = table
        self._identity = [_NUMBER] if _NUMBER in table.columns else list(table.columns)
        self._found: pyarrow.Table | None = None if is_new else read(table)
        self._given: list[pyarrow.Table] = []
        self._count = 0

    def append(self, rows: pyarrow.Table) -> None:
        """Append the next rows of the run, but for those that the table has already.

        Raises:
            RowsDiffer: the table has other rows. It has none now; the next attempt writes all.
        """
        known = 0
        if self._found is not None:
            old = self._found.slice(self._count, rows.num_rows)
            known = old.num_rows
            if any(differing(old, rows.slice(0, known))):
                self._renew("it has other rows than the journal")
            if known < rows.num_rows:
                self._found = None
        if known < rows.num_rows:
            self._table.append_partition(0, rows.slice(known))
        self._count += rows.num_rows
        self._given.append(rows.select(self._identity))

    @property
    def summary(self) -> dict[str, int]:
        """Which rows have been appended, as `summary_of` returns it."""
        return _summary(pyarrow.concat_tables(self._given))

    def check(self) -> None:
        """Read back which rows Tiled has; called when all have been appended.

        A Tiled 0.2.20 server other than the embedded one shares a DuckDB connection between
        threads: a read may roll an acknowledged append back.

        Raises:
            RowsDiffer: they are not those that were appended; the next attempt puts it right.
        """
        expected = pyarrow.concat_tables(self._given)
        found = read(self._table, self._identity)
        shared = min(found.num_rows, expected.num_rows)
        is_beginning = not any(differing(found.slice(0, shared), expected.slice(0, shared)))
        if is_beginning and found.num_rows == expected.num_rows:
            return
        why = f"{expected.num_rows} rows were acknowledged{self._difference(found, expected)}"
        if is_beginning and found.num_rows < expected.num_rows:
            raise RowsDiffer(f"{self._table.uri}: {why}; the missing ones are added")
        self._renew(why)

    def _renew(self, why: str) -> None:
        renew(self._table)
        raise RowsDiffer(f"{self._table.uri}: {why}; the table is written again")

    def _difference(self, found: pyarrow.Table, expected: pyarrow.Table) -> str:
        """Describe which events are missing and doubled."""
        if self._identity != [_NUMBER]:
            return f", Tiled has {found.num_rows}"
        there = Counter(found[_NUMBER].to_pylist())
        wanted = Counter(expected[_NUMBER].to_pylist())
        parts = {"lacks": wanted - there, "has besides": there - wanted}
        words = [
            f"Tiled {what} {sum(events.values())}, with the numbers {sorted(events)[:_LISTED]}"
            for what, events in parts.items()
            if events
        ]
        return "".join(f", {each}" for each in words or ["Tiled has them in another order"])


def summary_of(table: Any) -> dict[str, int]:
    """Return which rows a table in Tiled has.

    Returns:
        `rows`, their number, and where the table has sequence numbers `seq_nums`, the CRC-32 of
        these in order, as little-endian `i8`.
    """
    first = _NUMBER if _NUMBER in table.columns else table.columns[0]
    return _summary(read(table, [first]))


def _summary(rows: pyarrow.Table) -> dict[str, int]:
    counted = {"rows": rows.num_rows}
    if _NUMBER not in rows.column_names:
        return counted
    return {**counted, "seq_nums": zlib.crc32(rows[_NUMBER].to_numpy().astype("<i8").tobytes())}
