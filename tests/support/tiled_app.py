"""A Tiled server inside the test's process, with the stores of the embedded one."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any

from tiled.client import from_context
from tiled.client.context import Context
from tiled.server.app import build_app_from_config

from bluesky_em.files.layout import Layout
from bluesky_em.storage.tiled_server import _access, _results_container
from bluesky_em.storage.tiled_server._duckdb import connection_per_request
from bluesky_em.storage.tiled_server._tiled_config import tables_uri, tiled_config


@contextlib.contextmanager
def catalog_of(layout: Layout) -> Iterator[Any]:
    """A client of a storage folder's catalog that may read and write."""
    layout.catalog.mkdir(parents=True, exist_ok=True)
    layout.data.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(layout.catalog / "catalog.db")) as database:
        database.execute("PRAGMA journal_mode=WAL")
    config = tiled_config(layout)
    key = config["authentication"]["single_user_api_key"]
    app = build_app_from_config(config)
    with _context_of(app, layout, key) as context:
        yield from_context(context).include_data_sources()


@contextlib.contextmanager
def server_of(layout: Layout, keys: Mapping[str, frozenset[str]]) -> Iterator[Context]:
    """The embedded server with these keys, as a client of the first one."""
    layout.catalog.mkdir(parents=True, exist_ok=True)
    layout.data.mkdir(parents=True, exist_ok=True)
    app = build_app_from_config(tiled_config(layout))
    _access.grant(app, keys)
    with _context_of(app, layout, next(iter(keys))) as context:
        context.http_client.portal.call(_results_container.create, app.state.root_tree)
        yield context


@contextlib.contextmanager
def _context_of(app: Any, layout: Layout, key: str) -> Iterator[Context]:
    with (
        connection_per_request(tables_uri(layout)),
        Context.from_app(app, api_key=key, raise_server_exceptions=False) as context,
    ):
        yield context
