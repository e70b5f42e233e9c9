"""The embedded Tiled server: a process of its own, on loopback, with random keys."""

from __future__ import annotations

import os
import secrets
import socket
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import filelock

from bluesky_em.files.layout import Layout
from bluesky_em.files.locks import is_held
from bluesky_em.files.tiled.address import TiledAddress, last_address, publish

from .. import processes
from ._duckdb import connection_per_request
from ._live_settings import LiveCache

_LOOK = 0.5  # seconds between two looks whether a writer works, once the parent is gone
_ENDING = 20.0  # seconds the server may take to finish its requests
_LINGERING = 15.0  # seconds without a writer until the server ends: the next Storage may be near


def serve(root: Path) -> None:
    """Serve a storage folder's catalog until nobody needs it.

    That is: until the parent is gone, and no writer works on the folder. Takes 10-15 s before it
    answers; `address_of` tells where, from then on. Port and keys stay over restarts.

    Raises:
        filelock.Timeout: it is being served already.
    """
    layout = Layout(root)
    layout.catalog.mkdir(parents=True, exist_ok=True)
    layout.data.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(layout.catalog_lock, timeout=0):
        processes.lower_priority()
        _run(layout)


def _run(layout: Layout) -> None:
    # Seconds of imports: only where they are needed.
    import uvicorn
    from tiled.server.app import build_app_from_config

    from . import _access

    last = last_address(layout)
    listener = _bind(int(last.uri.rpartition(":")[2]) if last else 0)
    address = TiledAddress(
        uri=f"http://127.0.0.1:{listener.getsockname()[1]}",
        api_key=(last and last.api_key) or secrets.token_hex(32),
        writer_key=(last and last.writer_key) or secrets.token_hex(32),
        analyst_key=(last and last.analyst_key) or secrets.token_hex(32),
    )
    publish(layout, replace(address, ready=False))

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            publish(layout, address)

    # Tiled 0.2.20 means to do so, and does not: readers and the feed need not wait for each other
    with closing(sqlite3.connect(layout.catalog / "catalog.db")) as database:
        database.execute("PRAGMA journal_mode=WAL")
    app = build_app_from_config(_config(layout))
    keys = {
        address.api_key: _access.READER,
        address.analyst_key: _access.ANALYST,
        address.writer_key: _access.WRITER,
    }
    _access.grant(app, keys)
    server = Server(uvicorn.Config(app, log_level="warning"))

    def leave(hurry: bool) -> None:
        unneeded, enough = 0.0, _LOOK if hurry else _LINGERING
        while unneeded < enough:
            time.sleep(_LOOK)
            unneeded = 0.0 if is_held(layout.writer_lock) else unneeded + _LOOK
        server.should_exit = True
        time.sleep(_ENDING)  # a request that hangs must not keep the process for ever
        os._exit(0)

    processes.on_parent_exit(leave)
    with connection_per_request(_tables(layout)):
        server.run(sockets=[listener])
    publish(layout, replace(address, ready=False))


def _config(layout: Layout) -> dict[str, Any]:
    return {
        "trees": [
            {
                "path": "/",
                "tree": "catalog",
                "args": {
                    "uri": f"sqlite:///{(layout.catalog / 'catalog.db').as_posix()}",
                    "init_if_not_exists": True,
                    "readable_storage": [str(layout.data)],
                    "writable_storage": [
                        str(layout.catalog / "arrays"),
                        _tables(layout),
                    ],
                    "specs": [{"name": "CatalogOfBlueskyRuns", "version": "3.0"}],
                },
            }
        ],
        "authentication": {"single_user_api_key": secrets.token_hex(32)},  # see _keys
        "expose_raw_assets": False,
        "streaming_cache": LiveCache().config(),
        "media_types": {
            "BlueskyRun": {
                "application/json-seq": "bluesky_tiled_plugins.exporters:json_seq_exporter"
            }
        },
    }


def _tables(layout: Layout) -> str:
    return f"duckdb:///{(layout.catalog / 'tables.duckdb').as_posix()}"


def _bind(port: int) -> socket.socket:
    """Bind, but do not listen: until the server is ready, connections are refused."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if os.name == "posix":  # on Windows this would let two servers share the port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError:
        listener.bind(("127.0.0.1", 0))
    return listener
