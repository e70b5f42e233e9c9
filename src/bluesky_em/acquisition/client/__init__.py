"""Call acquisition servers, from threads (`Client`) and from asyncio (`AsyncClient`)."""

from bluesky_em.errors import require

require("Pyro5")

from ._address import ServerAddress
from ._client import AsyncClient, Client, client_for, close_all

__all__ = ["Client", "AsyncClient", "ServerAddress", "client_for", "close_all"]
