"""The clients that all devices of this process share: one per acquisition server."""

from __future__ import annotations

import asyncio
import threading

from ._instrument import InstrumentClient

_clients: dict[str, InstrumentClient] = {}
_lock = threading.Lock()


def client_for(uri: str) -> InstrumentClient:
    """Return this process's client of the server at `uri`.

    Devices on one server share its channels: their exposures stay in order.
    """
    with _lock:
        return _clients.setdefault(uri, InstrumentClient(uri))


async def hold_fly_scans() -> None:
    """Hold every fly scan that devices of this process have begun; never raises, takes 2 s at most.

    To be awaited before the beam is blanked in a pause: the RunEngine pauses devices in no
    particular order, and a row that ends after the beam is off would be kept, and dark.
    """
    with _lock:
        clients = list(_clients.values())
    await asyncio.gather(*(client.hold() for client in clients))


def close_all() -> None:
    """Close the connections to all servers; a device that is used later opens its own again."""
    with _lock:
        for client in _clients.values():
            client.close()
