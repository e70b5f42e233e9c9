"""Storage of the embedded Tiled server's live messages, for clients that subscribe later."""

from __future__ import annotations

import logging
from typing import Any

import cachetools
from redis import RedisError
from tiled.server.streaming import (
    RedisStreamingDatastore,
    TTLCacheDatastore,
    register_datastore,
)

logger = logging.getLogger(__name__)

_InMemory: Any = TTLCacheDatastore  # a type checker considers it abstract
_InRedis: Any = RedisStreamingDatastore

MESSAGE_BYTES = 1024  # memory that a message needs beside its payload
ACTION = {"action": "live"}


def keep_in_memory(seconds: float, limit: int) -> None:
    """Configure a Tiled server in this process to keep at most `limit` bytes for `seconds`.

    By default Tiled 0.2.20 keeps 1000 messages, and restarts its counting after 1000 nodes.
    """

    class Messages(_InMemory):
        def __init__(self, tiled_settings: dict[str, Any]):
            super().__init__(tiled_settings)
            self._seq_cache: Any = {}
            self._seq_counters: Any = {}
            self._data_cache: Any = cachetools.TTLCache(limit, seconds, getsizeof=_size)

        async def set(
            self, node_id: Any, sequence: int, metadata: Any, payload: bytes | None = None
        ) -> None:
            if payload is not None and len(payload) > limit // 2:
                payload = None  # followers read the data from the catalog
            try:
                await super().set(node_id, sequence, metadata, payload)
            except ValueError as exc:  # larger than the limit
                logger.warning("a live message is not sent: %s", exc, extra=ACTION)

    register_datastore("memory")(Messages)


def keep_in_redis() -> None:
    """Configure a Tiled server in this process to work without its Redis while that is away."""
    register_datastore("redis")(_Redis)


class _Redis(_InRedis):
    """A Redis that may be unreachable: no message is kept then, and followers read the catalog."""

    async def incr_seq(self, node_id: Any) -> int:
        try:
            return await super().incr_seq(node_id)
        except RedisError as exc:
            logger.warning("live messages are not kept: %s", exc, extra=ACTION)
            return 0

    async def set(self, node_id: Any, sequence: int, *message: Any, **payload: Any) -> None:
        try:
            await super().set(node_id, sequence, *message, **payload)
        except RedisError as exc:
            logger.warning("a live message is not sent: %s", exc, extra=ACTION)

    async def close(self, node_id: Any) -> None:
        try:
            await super().close(node_id)
        except RedisError as exc:
            logger.warning("the end of a stream is not sent live: %s", exc, extra=ACTION)


def _size(message: dict[str, Any]) -> int:
    return MESSAGE_BYTES + len(message["metadata"]) + len(message.get("payload", b""))
