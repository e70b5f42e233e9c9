"""The embedded Tiled server: `python -m bluesky_em.storage.tiled_server <storage>`."""

from ._live_settings import LiveCache

__all__ = ["LiveCache"]
