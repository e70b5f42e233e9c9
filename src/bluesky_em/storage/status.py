"""The state of a storage folder, for `Storage.status()` and `bluesky-em status`."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from bluesky_em.files.layout import Layout
from bluesky_em.files.ledger import HEARTBEAT_TIMEOUT, Ledger
from bluesky_em.files.locks import is_held
from bluesky_em.files.tiled.address import last_address, why_not_ready
from bluesky_em.reference import ReferenceState

RATE_INTERVAL = 30.0  # seconds over which the rate is averaged
FAILURES_LIMIT = 3  # failed references that are listed


@dataclass(frozen=True, kw_only=True)
class SpoolStatus:
    """The spool of one acquisition server."""

    server: str
    """its address"""
    frames: int = 0
    """frames that wait in the spool"""
    bytes: int = 0
    capacity: int = 0
    """bytes"""
    exposing: bool = False
    trouble: str = ""
    """why the server does not answer; empty if it does"""


@dataclass(frozen=True, kw_only=True)
class StorageStatus:
    """The state of a storage folder at one moment."""

    captured: int
    """references whose frames still wait in a spool"""
    stored: int
    """references in their files, not yet readable through Tiled"""
    catalogued: int
    """references readable through Tiled"""
    failed: int
    """references whose frames are lost"""
    open_runs: int
    """runs that are not complete"""
    rate: float
    """frames stored per second, averaged over the last 30 s"""
    eta: float | None
    """s until all captured frames are stored at that rate; None if the rate is 0"""
    activity: str
    """of the writer: `working`, `idle`, or for how long it has given no sign of life"""
    writer: str
    """its process: `running`, or why it does not run"""
    tiled: str
    """the process of the embedded Tiled server, likewise"""
    trouble: str
    """what keeps storage from continuing; empty if nothing does"""
    failure: str = ""
    """why frames of open runs are in danger, as for `on_failure`; empty if they are not, and
    from outside the process that has the Storage"""
    failures: tuple[str, ...]
    """the newest failed references, at most three, and why each failed"""
    free: int
    """bytes free on the storage disk; 0 while it cannot be read"""
    spools: tuple[SpoolStatus, ...] = ()
    """the acquisition servers' spools; empty from `Storage.status()`, which uses no network"""


def status_of(layout: Layout, ledger: Ledger) -> StorageStatus:
    """Return the status that ledger, lock files and disk show; uses no network."""
    counts, heartbeat = ledger.counts(), ledger.heartbeat()
    waiting = counts[ReferenceState.CAPTURED]
    rate = ledger.stored_since(time.time() - RATE_INTERVAL) / RATE_INTERVAL
    silence = time.time() - heartbeat.time
    silent = f"no sign of life for {silence:.0f} s" if heartbeat.time else "never seen"
    return StorageStatus(
        captured=waiting,
        stored=counts[ReferenceState.STORED],
        catalogued=counts[ReferenceState.CATALOGUED],
        failed=counts[ReferenceState.FAILED],
        open_runs=len(layout.journals()) - len(ledger.complete_runs()),
        rate=round(rate, 1),
        eta=round(waiting / rate, 1) if rate else None,
        activity=silent if silence > HEARTBEAT_TIMEOUT else "working" if waiting else "idle",
        writer="running" if is_held(layout.writer_lock) else "not running",
        tiled=_tiled(layout),
        trouble=heartbeat.trouble,
        failures=tuple(ledger.newest_failures(FAILURES_LIMIT)),
        free=_free(layout.root),
    )


def _tiled(layout: Layout) -> str:
    state = "running" if is_held(layout.catalog_lock) else "not running"
    last = last_address(layout)
    return f"{state}; {why_not_ready(layout)}" if last and (last.error or last.note) else state


def _free(root: Path) -> int:
    try:
        return shutil.disk_usage(root).free
    except OSError:
        return 0
