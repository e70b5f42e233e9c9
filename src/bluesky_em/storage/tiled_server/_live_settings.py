"""What the embedded Tiled server keeps for those who follow runs live."""

from __future__ import annotations

import math
from typing import Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class LiveCache(BaseSettings):
    """How much of the past a live subscription can be given; never about data.

    From the environment: `BLUESKY_EM_LIVE_SECONDS`, `_BYTES`, `_REDIS`.

    Raises:
        ValueError: they are wrong; the message tells which, and what would be right.
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
        """Give Tiled's `streaming_cache`; its messages are kept as these settings say."""
        from . import _live_messages  # Tiled's server

        if self.redis:
            _live_messages.keep_in_redis()
            return {"uri": self.redis, "data_ttl": math.ceil(self.seconds)}
        _live_messages.keep_in_memory(self.seconds, self.bytes)
        return {"uri": "memory"}
