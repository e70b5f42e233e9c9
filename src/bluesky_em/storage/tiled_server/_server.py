"""The embedded Tiled server: a separate process on loopback, with random keys."""

from __future__ import annotations

import os
import secrets
import socket
import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import filelock

from bluesky_em.files.layout import Layout
from bluesky_em.files.locks import is_held
from bluesky_em.files.readable_folders import declared
from bluesky_em.files.tiled.address import TiledAddress, last_address, publish
from bluesky_em.files.tiled.row_map import KEY

from .. import processes
from . import _catalog_version, _moved_folder
from ._catalog_mark import next_mark
from ._duckdb import connection_per_request
from ._tiled_config import CATALOG, TABLES, catalog_uri, tables_uri, tiled_config

_POLL_INTERVAL = 0.5  # seconds between two checks for a writer, after the parent has exited
_SHUTDOWN_TIMEOUT = 20.0  # seconds the server may take to finish its requests
_IDLE_TIMEOUT = 15.0  # seconds without a writer until the server ends: a new Storage may start soon


def serve(root: Path) -> None:
    """Serve a storage folder's catalog until no process needs it.

    That is: until the parent has exited and no writer works on the folder. The server needs
    10-15 s to start; from then on `address_of` returns its address. Port and keys stay the same
    over restarts. It also ends when other folders are declared readable: the next one reads them.

    Raises:
        filelock.Timeout: another process serves it already.
        UnusableCatalog: the installed Tiled cannot serve it.
        Exception: it cannot be served for another reason, which is published with the address.
    """
    layout = Layout(root)
    layout.catalog.mkdir(parents=True, exist_ok=True)
    layout.data.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(layout.catalog_lock, timeout=0):
        processes.lower_priority(starting=True)
        try:
            _run(layout)
        except Exception as exc:
            _publish_error(layout, exc)
            raise


def _publish_error(layout: Layout, exc: Exception) -> None:
    """Publish why there is no address, for every process that asks for it."""
    last = last_address(layout)
    if last is not None:
        is_final = isinstance(exc, _catalog_version.UnusableCatalog)
        words = " ".join(str(exc).split()) or repr(exc)
        publish(layout, replace(last, ready=False, error=words, final=is_final, note=""))


def _tell(layout: Layout, what: str) -> None:
    last = last_address(layout)
    if last is not None:
        publish(layout, replace(last, note=what))


def _run(layout: Layout) -> None:
    address, listener = _new_address(layout)
    catalog = layout.catalog / CATALOG
    _catalog_version.upgrade(catalog, catalog_uri(layout), lambda what: _tell(layout, what))
    _moved_folder.follow(catalog, layout.root)
    mark = next_mark(catalog, layout.catalog / TABLES)

    # These imports take seconds, so they are done only here.
    import uvicorn
    from tiled.server.app import build_app_from_config

    from . import _access, _results_container

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            await _results_container.create(app.state.root_tree)
            publish(layout, address)
            processes.lower_priority()

    # Tiled 0.2.20 tries to set this and fails. With it, readers and the feed do not block each
    # other.
    with closing(sqlite3.connect(catalog)) as database:
        database.execute("PRAGMA journal_mode=WAL")
    readable = declared(layout)
    app = build_app_from_config(tiled_config(layout, {KEY: mark}))
    keys = {
        address.api_key: _access.READER,
        address.analyst_key: _access.ANALYST,
        address.writer_key: _access.WRITER,
    }
    _access.grant(app, keys)
    server = Server(uvicorn.Config(app, log_level="warning"))

    def stop(hurry: bool) -> None:
        idle, limit = 0.0, _POLL_INTERVAL if hurry else _IDLE_TIMEOUT
        while idle < limit:
            time.sleep(_POLL_INTERVAL)
            idle = 0.0 if is_held(layout.writer_lock) else idle + _POLL_INTERVAL
        server.should_exit = True
        time.sleep(_SHUTDOWN_TIMEOUT)  # a request that hangs must not keep the process alive
        os._exit(0)

    def watch() -> None:
        while declared(layout) == readable:
            time.sleep(_POLL_INTERVAL)
        server.should_exit = True
        time.sleep(_SHUTDOWN_TIMEOUT)
        os._exit(processes.BUSY)

    processes.on_parent_exit(stop)
    threading.Thread(target=watch, name="readable folders", daemon=True).start()
    with connection_per_request(tables_uri(layout)):
        server.run(sockets=[listener])
    publish(layout, replace(address, ready=False))


def _new_address(layout: Layout) -> tuple[TiledAddress, socket.socket]:
    """Bind the last port, publish that the server starts, and return what it will publish."""
    last = last_address(layout)
    listener = _bind(int(last.uri.rpartition(":")[2]) if last else 0)
    address = TiledAddress(
        uri=f"http://127.0.0.1:{listener.getsockname()[1]}",
        api_key=(last and last.api_key) or secrets.token_hex(32),
        writer_key=(last and last.writer_key) or secrets.token_hex(32),
        analyst_key=(last and last.analyst_key) or secrets.token_hex(32),
    )
    starts = 1 + (last.starts if last else 0)
    error = last.error if last else ""  # until it is known whether this start fails, too
    publish(layout, replace(address, ready=False, starts=starts, error=error))
    return address, listener


def _bind(port: int) -> socket.socket:
    """Bind without listening: connections are refused until the server is ready."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if os.name == "posix":  # on Windows this would allow two servers on one port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError:
        listener.bind(("127.0.0.1", 0))
    return listener
