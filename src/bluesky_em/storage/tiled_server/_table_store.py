"""The database of event tables, when it was replaced by an older one or is new."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

_FAMILIES = ("table", "ragged")
"""Kinds of nodes that have their rows in this database."""
_COUNTER = "_dataset_id_counter"
"""Tiled's sequence of the numbers that tell the rows of one node from those of another."""
_LARGEST = "SELECT MAX(json_extract(parameters, '$.dataset_id')) FROM data_sources"
_NODES = (
    "SELECT json_extract(parameters, '$.table_name'), structure_family, "
    "MAX(structures.structure) FROM data_sources JOIN structures ON structures.id = structure_id "
    "WHERE structure_family IN (?, ?) GROUP BY 1, 2"
)


def complete_tables(nodes: sqlite3.Connection, events: Any) -> None:
    """Create the tables that nodes of the catalog need, and count on from their numbers.

    Without that, a new node would get the number of an existing one: both would have the same rows.

    Args:
        nodes: the catalog's database.
        events: the database of event tables.
    """
    if not nodes.execute("SELECT 1 FROM sqlite_master WHERE name = 'data_sources'").fetchall():
        return
    (largest,) = nodes.execute(_LARGEST).fetchone()
    events.execute(f"CREATE SEQUENCE IF NOT EXISTS {_COUNTER}")
    (last,) = events.execute(
        "SELECT last_value FROM duckdb_sequences() WHERE sequence_name = ?", [_COUNTER]
    ).fetchone()
    if (missing := (largest or 0) - (last or 0)) > 0:
        events.execute(f"SELECT MAX(nextval('{_COUNTER}')) FROM range({missing})").fetchall()
    existing = {
        name for (name,) in events.execute("SELECT table_name FROM duckdb_tables()").fetchall()
    }
    for name, family, structure in nodes.execute(_NODES, _FAMILIES).fetchall():
        if name and name not in existing:
            events.execute(_create(name, family, json.loads(structure)))


def _create(name: str, family: str, structure: Any) -> str:
    """Return the statement with which Tiled creates the table of a node."""
    import numpy as np
    import pyarrow
    from tiled.adapters.sql import arrow_schema_to_create_table
    from tiled.structures.ragged import RaggedStructure
    from tiled.structures.table import TableStructure

    if family == "ragged":  # one row for each append, one column for each buffer
        buffers = RaggedStructure.from_json(structure).awkward_form.expected_from_buffers()
        columns: Any = {column: [np.empty(0, dtype)] for column, dtype in buffers.items()}
        table: Any = TableStructure.from_dict({**columns, "chunk_index": [np.int64(0)]})
    else:
        table = TableStructure.from_json(structure)
    schema = table.arrow_schema_decoded.insert(0, pyarrow.field("_partition_id", pyarrow.int16()))
    schema = schema.insert(0, pyarrow.field("_dataset_id", pyarrow.int32()))
    return arrow_schema_to_create_table(schema, name, "duckdb")
