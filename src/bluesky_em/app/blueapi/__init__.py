"""Sources for blueapi: a laboratory's devices and plans, with storage behind them."""

from bluesky_em.errors import require

require("blueapi")

from ._worker import Worker, sources

__all__ = ["sources", "Worker"]
