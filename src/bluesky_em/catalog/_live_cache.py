"""What the embedded Tiled server keeps for those who follow runs live."""

from __future__ import annotations

import logging
import math
from typing import Any

import cachetools
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict
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


class LiveCache(BaseSettings):
    """How much of the past a live subscription can be given; never about data.

    From the environment: `BLUESKY_EM_LIVE_SECONDS`, `_BYTES`, `_REDIS`.
    """

    model_config = SettingsConfigDict(
        env_prefix="BLUESKY_EM_LIVE_", title="the environment's BLUESKY_EM_LIVE_..."
    )

    seconds: float = Field(default=86400.0, gt=0)
    """after which a message is forgotten, in s"""
    bytes: int = Field(default=1 << 30, ge=1 << 20)
    """of messages, the oldest of which are forgotten beyond that; of a Redis, `maxmemory` is"""
    redis: str = Field(default="", pattern=r"^(rediss?://.*)?$")
    """address of a Redis database, of this catalog's own, e.g. `redis://localhost:6379/0`; empty:
    the server's memory"""

    def config(self) -> dict[str, Any]:
        """Give Tiled's `streaming_cache`."""
        if self.redis:
            register_datastore("redis")(_Redis)
            return {"uri": self.redis, "data_ttl": math.ceil(self.seconds)}
        register_datastore("memory")(self._datastore())
        return {"uri": "memory"}

    def _datastore(self) -> Any:
        """Make Tiled's store keep what these settings say.

        Tiled 0.2.20's own keeps 1000 messages, and begins to count anew after 1000 nodes.
        """
        settings = self

        class Messages(_InMemory):
            def __init__(self, tiled_settings: dict[str, Any]):
                super().__init__(tiled_settings)
                self._seq_cache: Any = {}
                self._seq_counters: Any = {}
                self._data_cache: Any = cachetools.TTLCache(
                    settings.bytes, settings.seconds, getsizeof=_size
                )

            async def set(
                self, node_id: Any, sequence: int, metadata: Any, payload: bytes | None = None
            ) -> None:
                if payload is not None and len(payload) > settings.bytes // 2:
                    payload = None  # followers read it from the catalog
                try:
                    await super().set(node_id, sequence, metadata, payload)
                except ValueError as exc:  # larger than all that may be kept
                    logger.warning("a live message is not sent: %s", exc, extra=ACTION)

        return Messages


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
