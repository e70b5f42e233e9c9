"""Where a Tiled server answers; the embedded one publishes it in the storage folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from bluesky_em.files.atomic import write_whole
from bluesky_em.files.layout import Layout


@dataclass(frozen=True, kw_only=True)
class TiledAddress:
    """Where a Tiled server answers."""

    uri: str
    """e.g. `http://127.0.0.1:8000`"""
    api_key: str
    """for those who read; empty for none"""
    writer_key: str = ""
    """for the feed; empty for none"""
    analyst_key: str = ""
    """for those who publish results; empty for none"""
    ready: bool = True
    """False while the embedded server starts"""


def address_of(layout: Layout) -> TiledAddress | None:
    """Give the embedded server's address, or None while it is not ready."""
    address = last_address(layout)
    return address if address and address.ready else None


def last_address(layout: Layout) -> TiledAddress | None:
    """Return what the embedded server published last, or None."""
    try:
        return TiledAddress(**json.loads((layout.catalog / "address.json").read_text()))
    except (FileNotFoundError, ValueError):  # never there, or emptied by a power cut
        return None


def publish(layout: Layout, address: TiledAddress) -> None:
    """Write the embedded server's address and keys, readable by their owner only."""
    write_whole(layout.catalog / "address.json", json.dumps(asdict(address)), mode=0o600)
