"""The database of event tables, made safe for use by several threads."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

logger = logging.getLogger(__name__)

_INVALIDATED = "database has been invalidated"  # DuckDB's answer to every call from then on


@contextmanager
def connection_per_request(uri: str) -> Iterator[None]:
    """Open Tiled's table storage `uri`, with a separate connection for each request.

    In Tiled 0.2.20 all threads share one connection, which DuckDB does not allow: reading while
    events are appended crashes the process, or rolls the events back.

    If the disk is full while DuckDB writes a checkpoint, DuckDB invalidates the database until it
    is opened again, and no thread may do that while others use it. So the process exits; its
    supervisor starts it again.
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
                if _INVALIDATED in str(exc):
                    logger.critical("exiting, to open the event tables again: %s", exc)
                    os._exit(1)
                raise

        object.__setattr__(storage, "connect", connect)  # the dataclass is frozen
        yield
