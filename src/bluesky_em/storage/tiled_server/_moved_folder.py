"""A storage folder that was moved, renamed or copied: its catalog has the addresses of before."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from bluesky_em.files.tiled.file_uri import file_uri

from ._catalog_copy import copy_catalog
from ._tiled_config import TABLES

logger = logging.getLogger(__name__)

_HAS_ASSETS = "SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'assets'"
_MERGE = (
    "UPDATE OR IGNORE data_source_asset_association SET asset_id = :other WHERE asset_id = :asset",
    "DELETE FROM data_source_asset_association WHERE asset_id = :asset",
    "DELETE FROM assets WHERE id = :asset",
)
_URI = re.compile(r"(file://(?:localhost)?|duckdb://(?:localhost)?/?(?=/))(/.*)", re.DOTALL)
"""What is before a path in Tiled's URIs, and the path."""


def follow(catalog: Path, root: Path) -> None:
    """Replace the addresses of a catalog's files by those that they have in the folder `root`.

    Tiled stores the whole path of each file and of its database of events; the latter tells where
    the folder was. Paths below another folder are replaced, in one transaction, after a copy of
    the catalog was made beside it. So are paths that an earlier version quoted (see `file_uri`).

    Args:
        catalog: path of `catalog.db`, which may not exist yet; no server has it open.
        root: the storage folder as it is now.

    Raises:
        OSError, sqlite3.Error: nothing has been changed.
    """
    if not catalog.exists():
        return
    with closing(sqlite3.connect(catalog)) as database:
        if not database.execute(_HAS_ASSETS).fetchall():
            return
        assets = database.execute("SELECT id, data_uri FROM assets").fetchall()
        changes = _changes(dict(assets), _path_in_uri(root))
        if not changes:
            return
        copy = copy_catalog(catalog, "moved")
        with database:
            for asset, uri in changes.items():
                _change(database, asset, uri)
    logger.warning(
        "%s was moved or renamed: %d addresses in its catalog have been changed. As it was: %s",
        root, len(changes), copy, extra={"action": "moved"},
    )  # fmt: skip


def _changes(assets: dict[int, str], root: str) -> dict[int, str]:
    """Return the new URIs, by the ids of their assets."""
    tables = f"/catalog/{TABLES}"
    paths = {asset: _split(uri) for asset, uri in assets.items()}
    roots = {path.removesuffix(tables) for _, path in paths.values() if path.endswith(tables)}
    roots |= {quote(old) for old in (*roots, root)}
    changes: dict[int, str] = {}
    for asset, (head, path) in paths.items():
        if path.startswith(f"{root}/"):
            continue
        for old in sorted(roots - {root}, key=len, reverse=True):
            if path.startswith(f"{old}/"):
                changes[asset] = head + root + path.removeprefix(old)
                break
    return changes


def _path_in_uri(root: Path) -> str:
    return _split(file_uri(root))[1]


def _split(uri: str) -> tuple[str, str]:
    found = _URI.fullmatch(uri)
    if found is None:
        return uri, ""
    head, path = found.groups()
    return head, path.replace("\\", "/") if os.name == "nt" else path


def _change(database: sqlite3.Connection, asset: int, uri: str) -> None:
    found = database.execute("SELECT id FROM assets WHERE data_uri = ?", (uri,)).fetchone()
    if found is None:
        database.execute("UPDATE assets SET data_uri = ? WHERE id = ?", (uri, asset))
        return
    for statement in _MERGE:  # the folder was used in its new place already
        database.execute(statement, {"asset": asset, "other": found[0]})
