"""The live messages of the embedded Tiled server, as it keeps them for those who come late."""

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

_InMemory: Any = TTLCacheDatastore  # which a type checker takes for abstract
_InRedis: Any = RedisStreamingDatastore

MESSAGE = 1024  # bytes a message takes beside its payload
ACTION = {"action": "live"}


def keep_in_memory(seconds: float, most: int) -> None:
    """Have a Tiled server of this process keep `most` bytes of messages for so many seconds.

    Tiled 0.2.20 by itself keeps 1000 messages, and begins to count anew after 1000 nodes.
    """

    class Messages(_InMemory):
        def __init__(self, tiled_settings: dict[str, Any]):
            super().__init__(tiled_settings)
            self._seq_cache: Any = {}
            self._seq_counters: Any = {}
            self._data_cache: Any = cachetools.TTLCache(most, seconds, getsizeof=_size)

        async def set(
            self, node_id: Any, sequence: int, metadata: Any, payload: bytes | None = None
        ) -> None:
            if payload is not None and len(payload) > most // 2:
                payload = None  # followers read it from the catalog
            try:
                await super().set(node_id, sequence, metadata, payload)
            except ValueError as exc:  # larger than all that may be kept
                logger.warning("a live message is not sent: %s", exc, extra=ACTION)

    register_datastore("memory")(Messages)


def keep_in_redis() -> None:
    """Have it do without its Redis while that is away."""
    register_datastore("redis")(_Redis)


class _Redis(_InRedis):
    """A Redis that may be away: followers then read the catalog, and nothing is kept from it."""

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
            logger.warning("the end is not sent live: %s", exc, extra=ACTION)


def _size(message: dict[str, Any]) -> int:
    return MESSAGE + len(message["metadata"]) + len(message.get("payload", b""))
