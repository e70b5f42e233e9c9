"""A record of how full a spool is, for those who watch."""

from __future__ import annotations

import contextlib
import sqlite3
import time

from bluesky_em.acquisition.client import SpoolClient
from bluesky_em.files.ledger import SpoolFill
from bluesky_em.files.ledger_writer import LedgerWriter

FILL_INTERVAL = 1.0  # seconds between two records of how full the spool is


class SpoolFillRecord:
    """What the ledger has of one spool's fill, while frames wait in it."""

    def __init__(self, spool: SpoolClient, ledger: LedgerWriter):
        self._spool = spool
        self._ledger = ledger
        self._next = 0.0

    def update(self) -> None:
        """Record how full the spool is, at most each second."""
        if time.monotonic() < self._next:
            return
        status = self._spool.status()
        self._next = time.monotonic() + FILL_INTERVAL
        self._ledger.write_spool_fill(
            SpoolFill(server=self._spool.uri, bytes=status["bytes"], capacity=status["capacity"])
        )

    def forget(self) -> None:
        """Remove the record: no frames wait in the spool, and its server may be gone."""
        if self._next:
            self._next = 0.0
            with contextlib.suppress(sqlite3.Error):  # it is recorded again with the next frame
                self._ledger.forget_spool_fill(self._spool.uri)
