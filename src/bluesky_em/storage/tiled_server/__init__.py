"""The embedded Tiled server: `python -m bluesky_em.storage.tiled_server <storage>`."""

from ._live_settings import LiveCache
from ._tiled_config import tiled_config

__all__ = ["LiveCache", "tiled_config"]
