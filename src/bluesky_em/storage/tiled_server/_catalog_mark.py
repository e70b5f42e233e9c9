"""The mark of a catalog: which one it is, and at which starts of the server it was there.

Each start gets a random number. The database of the event tables has all of them, the database of
the nodes the last one. So an older copy lacks a start that the ledger remembers. If the two
databases disagree, one of them was replaced: that is another catalog then.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from ._table_store import complete_tables

logger = logging.getLogger(__name__)

_MARK = "bluesky_em_starts"
"""Name of the table with the numbers in the database of event tables."""
_NODES_MARK = "application_id"
"""The 31 bits of a SQLite database in which the last number is kept."""
_NEWEST = 50  # starts that clients see


def next_mark(catalog: Path, tables: Path) -> dict[str, Any]:
    """Mark a start of the server; return what clients see of it in the catalog's metadata.

    The database of event tables gets what it lacks, if it was replaced.

    Args:
        catalog: path of the database of nodes, which is created if absent.
        tables: path of the database of event tables, likewise.

    Returns:
        `catalog`, the first start, which is the catalog's identity, and `starts`, the newest ones.
    """
    import duckdb  # a second

    with (
        closing(sqlite3.connect(catalog)) as nodes,
        closing(duckdb.connect(str(tables))) as events,
    ):
        (last,) = nodes.execute(f"PRAGMA {_NODES_MARK}").fetchone()
        starts = _starts(events)
        # The tables are marked first; the process may have ended between the two.
        are_together = last in (starts[-2:] or [0])
        if not are_together:
            if last or starts:
                logger.warning(
                    "%s and %s do not belong together: one was replaced", catalog, tables,
                    extra={"action": "catalog"},
                )  # fmt: skip
            starts = []
        if not starts:
            complete_tables(nodes, events)
        starts.append(1 + secrets.randbelow(2**31 - 1))
        _write(events, starts)
        nodes.execute(f"PRAGMA {_NODES_MARK}={starts[-1]}")
    names = [f"{start:08x}" for start in starts]
    return {"catalog": names[0], "starts": names[-_NEWEST:]}


def _starts(events: Any) -> list[int]:
    known = "SELECT 1 FROM duckdb_tables() WHERE table_name = ?"
    if not events.execute(known, [_MARK]).fetchall():
        return []
    rows = events.execute(f"SELECT start FROM {_MARK} ORDER BY number").fetchall()
    return [start for (start,) in rows]


def _write(events: Any, starts: list[int]) -> None:
    events.execute("BEGIN")
    events.execute(f"CREATE OR REPLACE TABLE {_MARK} (number INTEGER, start INTEGER)")
    events.executemany(f"INSERT INTO {_MARK} VALUES (?, ?)", [*enumerate(starts)])
    events.execute("COMMIT")
    events.execute("CHECKPOINT")
