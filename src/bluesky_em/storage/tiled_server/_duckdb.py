"""The database of event tables, as threads may use it together."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

logger = logging.getLogger(__name__)

_SPOILED = "database has been invalidated"  # what DuckDB answers to everything, once it is


@contextmanager
def connection_per_request(uri: str) -> Iterator[None]:
    """Open Tiled's table storage `uri`, and give each request a connection of its own.

    Tiled 0.2.20 has all threads share one, which DuckDB does not allow: reading while events are
    appended crashes the process, or takes the events back.

    A disk that is full at the wrong moment (when DuckDB tidies up its file) spoils the database
    until it is opened anew, and no thread may do that while others use it. So the process ends:
    whoever keeps it starts it again.
    """
    from tiled.storage import SQLStorage, get_storage
    from tiled.utils import ensure_uri

    storage = get_storage(ensure_uri(uri))
    assert isinstance(storage, SQLStorage)
    with storage.create_adbc_connection() as database:

        def connect() -> Any:
            try:
                return database.adbc_clone()
            except database.Error as exc:
                if _SPOILED in str(exc):
                    logger.critical("ending, to open the event tables anew: %s", exc)
                    os._exit(1)
                raise

        object.__setattr__(storage, "connect", connect)  # it is frozen
        yield
