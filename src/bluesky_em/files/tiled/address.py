"""Address and keys of a Tiled server; the embedded one publishes them in the storage folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from bluesky_em.files.atomic import write_whole
from bluesky_em.files.layout import Layout


@dataclass(frozen=True, kw_only=True)
class TiledAddress:
    """Address and keys of a Tiled server."""

    uri: str
    """e.g. `http://127.0.0.1:8000`"""
    api_key: str
    """for reading; empty for none"""
    writer_key: str = ""
    """for the catalog feed; empty for none"""
    analyst_key: str = ""
    """for publishing results; empty for none"""
    ready: bool = True
    """False while the embedded server starts"""
    starts: int = 0
    """how often the embedded server was started without ever being ready"""
    note: str = ""
    """what it does while it starts, if that takes long"""
    error: str = ""
    """why its last start failed"""
    final: bool = False
    """whether it is not started again, since that would fail again"""

    @property
    def has_failed(self) -> bool:
        """Whether the embedded server is not ready, and its last start failed."""
        return bool(self.error) and not self.ready


def runs_of(client: Any) -> Any:
    """Return the client whose runs are `BlueskyRunV3`; a plain container is returned as it is.

    A client need not be one: databroker's use of `.v2` changes the class of run that every later
    client of this process returns.
    """
    return getattr(client, "v3", client)


def plain(node: Any) -> Any:
    """Return the same container without its view as a run or as a stream, if it has one."""
    return getattr(node, "base", node)


def address_of(layout: Layout) -> TiledAddress | None:
    """Return the embedded server's address, or None while it is not ready."""
    address = last_address(layout)
    return address if address and address.ready else None


def why_not_ready(layout: Layout) -> str:
    """Return why the embedded server has no address (yet), in words."""
    last = last_address(layout)
    if last is None or not last.has_failed:
        often = f", start {last.starts}" if last and last.starts > 1 else ""
        doing = (last and last.note) or "it takes 10-15 s"
        return f"the embedded Tiled server is not ready yet ({doing}{often})"
    again = "is not started again" if last.final else f"tried {last.starts} times"
    log = layout.catalog / "server.log"
    return f"the embedded Tiled server cannot start ({again}): {last.error}. Its log: {log}"


def last_address(layout: Layout) -> TiledAddress | None:
    """Return the address that the embedded server published last, or None."""
    try:
        return TiledAddress(**json.loads((layout.catalog / "address.json").read_text()))
    except (FileNotFoundError, ValueError):  # never written, or emptied by a power cut
        return None


def publish(layout: Layout, address: TiledAddress) -> None:
    """Write the embedded server's address and keys, readable by their owner only."""
    write_whole(layout.catalog / "address.json", json.dumps(asdict(address)), mode=0o600)
