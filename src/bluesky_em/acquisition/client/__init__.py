"""Call acquisition servers, from threads (`Line`) and from asyncio (`Link`)."""

from ._address import Address
from ._client import Line, Link, close_links, link_to

__all__ = ["Line", "Link", "Address", "link_to", "close_links"]
