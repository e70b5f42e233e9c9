"""Tiled's configuration for the catalog of a storage folder."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from bluesky_em.files.layout import Layout
from bluesky_em.files.readable_folders import declared

from ._live_settings import LiveCache

CATALOG, TABLES = "catalog.db", "tables.duckdb"
"""Names of the database of nodes and of the database of event tables."""


def tiled_config(layout: Layout, metadata: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the configuration of a server for this catalog, as `tiled serve config` reads it.

    Its API key is random; the embedded server replaces it (see `_access`).

    Args:
        layout: the storage folder.
        metadata: of the catalog itself, for clients.

    Raises:
        ValueError: the environment's `BLUESKY_EM_LIVE_...` are wrong.
    """
    return {
        "trees": [
            {
                "path": "/",
                "tree": "catalog",
                "args": {
                    "uri": catalog_uri(layout),
                    "init_if_not_exists": True,
                    "readable_storage": [
                        str(folder) for folder in (layout.data, *declared(layout))
                    ],
                    "writable_storage": [
                        str(layout.catalog / "arrays"),
                        tables_uri(layout),
                    ],
                    "metadata": dict(metadata or {}),
                    "specs": [{"name": "CatalogOfBlueskyRuns", "version": "3.0"}],
                },
            }
        ],
        "authentication": {"single_user_api_key": secrets.token_hex(32)},
        "access_control": {
            "access_policy": "bluesky_em.files.tiled.access_policy:RawIsReadOnly",
            "args": {},
        },
        "expose_raw_assets": False,
        "streaming_cache": LiveCache().config(),
        "media_types": {
            "BlueskyRun": {
                "application/json-seq": "bluesky_tiled_plugins.exporters:json_seq_exporter"
            }
        },
    }


def catalog_uri(layout: Layout) -> str:
    """Return the URI of the database of nodes."""
    return f"sqlite:///{(layout.catalog / CATALOG).as_posix()}"


def tables_uri(layout: Layout) -> str:
    """Return the URI of the database of event tables."""
    return f"duckdb:///{(layout.catalog / TABLES).as_posix()}"
