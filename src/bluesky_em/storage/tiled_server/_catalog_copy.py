"""A copy of the catalog beside it, made before the catalog is changed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from bluesky_em.files.atomic import whole_file


def copy_catalog(catalog: Path, why: str) -> Path:
    """Copy a catalog, with what its write-ahead log holds; the copy is complete or absent.

    Args:
        catalog: path of `catalog.db`.
        why: becomes part of the copy's name, e.g. `catalog-moved-20260102T030405.db`.

    Raises:
        OSError, sqlite3.Error: it cannot be copied.
    """
    copy = catalog.with_name(f"{catalog.stem}-{why}-{datetime.now(UTC):%Y%m%dT%H%M%S}.db")
    with (
        whole_file(copy) as part,
        closing(sqlite3.connect(catalog)) as database,
        closing(sqlite3.connect(part)) as target,
    ):
        database.backup(target)
    return copy


def restore(copy: Path, catalog: Path) -> None:
    """Restore the content of a catalog from a copy, which remains."""
    with closing(sqlite3.connect(copy)) as source, closing(sqlite3.connect(catalog)) as database:
        source.backup(database)


def put_back(copy: Path, catalog: Path) -> None:
    """Replace a catalog, of which a change was begun, by the copy made before."""
    for suffix in ("-wal", "-shm"):
        catalog.with_name(catalog.name + suffix).unlink(missing_ok=True)
    copy.replace(catalog)
