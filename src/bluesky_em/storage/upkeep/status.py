"""How a storage folder does: `bluesky-em status`."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from bluesky_em.acquisition.client import Client
from bluesky_em.errors import ServerUnreachable
from bluesky_em.files.layout import Layout
from bluesky_em.files.ledger import HEARTBEAT_TIMEOUT, Ledger
from bluesky_em.reference import ReferenceState

RECENT = 30.0  # seconds over which rates are taken
ANSWER = 2.0  # seconds a spool's server may take to tell how full it is


@dataclass(frozen=True, kw_only=True)
class Spooled:
    """What waits at one acquisition server."""

    server: str
    frames: int = 0
    bytes: int = 0
    capacity: int = 0
    exposing: bool = False
    trouble: str = ""
    """why it does not answer; empty if it does"""


@dataclass(frozen=True, kw_only=True)
class Overview:
    """A storage folder at one moment."""

    stages: dict[str, int]
    """references by stage"""
    open_runs: int
    """runs that are not complete"""
    rate: float
    """frames stored per second, of late"""
    eta: float | None
    """s until the backlog is stored at that rate; None if nothing moves"""
    writer: str
    """`at work`, `idle`, or for how long it has given no sign of life"""
    trouble: str
    """what keeps the writer from going on; empty if nothing does"""
    failures: list[str]
    """the last references that failed, and why"""
    free: int
    """bytes, of the storage disk"""
    spools: list[Spooled]


def look(layout: Layout) -> Overview:
    """Look at a storage folder; asks each acquisition server that it knows, for 2 s at most."""
    ledger = Ledger(layout.ledger)
    try:
        counts, heartbeat = ledger.counts(), ledger.heartbeat()
        rate = ledger.stored_since(time.time() - RECENT) / RECENT
        silent = time.time() - heartbeat.time
        dead = f"no sign of life for {silent:.0f} s" if heartbeat.time else "never seen"
        waiting = counts[ReferenceState.CAPTURED]
        return Overview(
            stages={stage.value: count for stage, count in counts.items()},
            open_runs=len(layout.journals()) - len(ledger.complete_runs()),
            rate=round(rate, 1),
            eta=round(waiting / rate, 1) if rate else None,
            writer=dead if silent > HEARTBEAT_TIMEOUT else "at work" if waiting else "idle",
            trouble=heartbeat.trouble,
            failures=ledger.newest_failures(3),
            free=shutil.disk_usage(layout.root).free,
            spools=[spool_at(server) for server in ledger.servers()],
        )
    finally:
        ledger.close()


def spool_at(server: str) -> Spooled:
    """Ask an acquisition server how full its spool is."""
    line = Client(server)
    try:
        status: dict[str, Any] = line.call("status", timeout=ANSWER)
    except ServerUnreachable as exc:
        return Spooled(server=server, trouble=str(exc))
    finally:
        line.close()
    fields = ("frames", "bytes", "capacity", "exposing")
    return Spooled(server=server, **{name: status[name] for name in fields})


def show(overview: Overview) -> Group:
    """Make it readable for a person."""
    return Group(*_lines(overview))


def _lines(overview: Overview) -> Iterator[Table | Text]:
    stages = Table(*overview.stages, title="references")
    stages.add_row(*map(str, overview.stages.values()))
    yield stages
    eta = f", {overview.eta:.0f} s to go" if overview.eta else ""
    yield Text(f"{overview.open_runs} runs not complete; {overview.rate:g} frames/s stored{eta}")
    yield Text(f"writer: {overview.writer}; {overview.trouble or 'no trouble'}")
    yield Text(f"storage disk: {decimal(overview.free)} free")
    spools = Table("spool of", "frames", "filled", "", title="waiting at acquisition servers")
    for spool in overview.spools:
        filled = f"{decimal(spool.bytes)} of {decimal(spool.capacity)}"
        state = spool.trouble or ("exposing" if spool.exposing else "")
        spools.add_row(spool.server, str(spool.frames), "" if spool.trouble else filled, state)
    if overview.spools:
        yield spools
    for failure in overview.failures:
        yield Text(f"failed: {failure}")
