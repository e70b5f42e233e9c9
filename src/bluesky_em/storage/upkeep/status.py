"""The status of a storage folder and its acquisition servers: `bluesky-em status`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rich.console import Group
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from bluesky_em.acquisition.client import SpoolClient
from bluesky_em.errors import ServerUnreachable
from bluesky_em.files.layout import Layout
from bluesky_em.files.ledger import Ledger
from bluesky_em.reference import ReferenceState

from ..status import SpoolStatus, StorageStatus, status_of

SERVER_TIMEOUT = 2.0  # seconds an acquisition server may take to answer


def read(layout: Layout) -> StorageStatus:
    """Return a storage folder's status; asks each of its acquisition servers, for 2 s at most."""
    ledger = Ledger(layout.ledger)
    try:
        spools = tuple(spool_at(server) for server in ledger.servers())
        return replace(status_of(layout, ledger), spools=spools)
    finally:
        ledger.close()


def spool_at(server: str) -> SpoolStatus:
    """Ask an acquisition server for the state of its spool."""
    client = SpoolClient(server)
    try:
        status = client.status(timeout=SERVER_TIMEOUT)
    except ServerUnreachable as exc:
        return SpoolStatus(server=server, trouble=str(exc))
    finally:
        client.close()
    return SpoolStatus(
        server=server,
        frames=status["frames"],
        bytes=status["bytes"],
        capacity=status["capacity"],
        exposing=status["exposing"],
    )


def show(status: StorageStatus) -> Group:
    """Return the status as tables and lines for a terminal."""
    return Group(*_lines(status))


def _lines(status: StorageStatus) -> Iterator[Table | Text]:
    references = Table(*ReferenceState, title="references")
    references.add_row(*(str(getattr(status, state)) for state in ReferenceState))
    yield references
    eta = f", {status.eta:.0f} s to go" if status.eta else ""
    yield Text(f"{status.open_runs} runs not complete; {status.rate:g} frames/s stored{eta}")
    yield Text(f"writer: {status.writer}, {status.activity}; {status.trouble or 'no trouble'}")
    yield Text(f"embedded Tiled server: {status.tiled}")
    yield Text(f"storage disk: {decimal(status.free)} free")
    spools = Table("spool of", "frames", "filled", "", title="waiting at acquisition servers")
    for spool in status.spools:
        filled = f"{decimal(spool.bytes)} of {decimal(spool.capacity)}"
        state = spool.trouble or ("exposing" if spool.exposing else "")
        spools.add_row(spool.server, str(spool.frames), "" if spool.trouble else filled, state)
    if status.spools:
        yield spools
    for failure in status.failures:
        yield Text(f"failed: {failure}")
