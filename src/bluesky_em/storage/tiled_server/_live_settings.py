"""Settings of the live messages that the embedded Tiled server keeps for followers."""

from __future__ import annotations

import math
from typing import Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class LiveCache(BaseSettings):
    """How many past messages a live subscription can receive; data are not affected.

    From the environment: `BLUESKY_EM_LIVE_SECONDS`, `_BYTES`, `_REDIS`.

    Raises:
        ValueError: a setting is wrong; the message names it, and what would be right.
    """

    model_config = SettingsConfigDict(
        env_prefix="BLUESKY_EM_LIVE_", title="the environment's BLUESKY_EM_LIVE_..."
    )

    seconds: float = Field(default=86400.0, gt=0)
    """age at which a message is deleted, in s"""
    bytes: int = Field(default=1 << 30, ge=1 << 20)
    """limit of all messages in memory; above it the oldest are deleted. A Redis has `maxmemory`."""
    redis: str = Field(default="", pattern=r"^(rediss?://.*)?$")
    """address of a Redis database for this catalog only, e.g. `redis://localhost:6379/0`; empty:
    keep messages in the server's memory"""

    def config(self) -> dict[str, Any]:
        """Return Tiled's `streaming_cache`, and configure this process to follow these settings."""
        from . import _live_messages  # imports Tiled's server, which takes seconds

        if self.redis:
            _live_messages.keep_in_redis()
            return {"uri": self.redis, "data_ttl": math.ceil(self.seconds)}
        _live_messages.keep_in_memory(self.seconds, self.bytes)
        return {"uri": "memory"}
