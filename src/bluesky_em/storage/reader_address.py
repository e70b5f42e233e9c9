"""The address and key with which a reader on another PC opens the catalog."""

from __future__ import annotations

import os
from dataclasses import dataclass

from bluesky_em.files.layout import Layout
from bluesky_em.files.tiled.address import address_of


@dataclass(frozen=True, kw_only=True)
class ReaderAddress:
    """The arguments of `Data` on a PC that has no storage folder.

    Usage:
        data = Data(address.uri, api_key=address.api_key)
    """

    uri: str
    """e.g. `http://127.0.0.1:8000`"""
    api_key: str | None
    """a read-only key of the embedded server; otherwise the key given to Storage, None for none"""


def reader_address(layout: Layout, tiled: str | None, api_key: str | None) -> ReaderAddress | None:
    """Return the address of the Tiled server; None while the embedded one starts.

    Args:
        layout: the storage folder, where the embedded server publishes its address.
        tiled: address of another server; None for the embedded one.
        api_key: of that other server; None: the environment's TILED_API_KEY, if there is one.
    """
    if tiled is not None:
        return ReaderAddress(uri=tiled, api_key=api_key or os.environ.get("TILED_API_KEY"))
    address = address_of(layout)
    return address and ReaderAddress(uri=address.uri, api_key=address.api_key)
