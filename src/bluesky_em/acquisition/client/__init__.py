"""Clients of acquisition servers: `InstrumentClient` for devices, `SpoolClient` for the writer.

Devices call from the event loop, `InstrumentClient`; the writer, `status` and `doctor` call from a
thread of their own, `SpoolClient`. Each has one typed method per method of the server that its
users need. Below both is `Client`, which calls any method of any served object by its name.
"""

from bluesky_em.errors import require

require("Pyro5")

from ._address import ServerAddress
from ._answers import FrameHeader, FrameLayout, Progress, ServerStatus
from ._client import AsyncClient, Client
from ._instrument import SETTLE_TIMEOUT, InstrumentClient
from ._shared import client_for, close_all, hold_fly_scans
from ._spool import SpoolClient

__all__ = [
    "InstrumentClient", "SpoolClient", "client_for", "close_all", "hold_fly_scans",
    "FrameHeader", "FrameLayout", "Progress", "ServerStatus", "SETTLE_TIMEOUT",
    "ServerAddress", "Client", "AsyncClient",
]  # fmt: skip
