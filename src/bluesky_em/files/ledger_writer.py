"""Write the ledger: for the writer process only."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bluesky_em.frame import Frame

from .layout import plain
from .ledger import QUERIES, KnownCatalog, Ledger, SpoolFill, connect

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 2
"""Raised when the tables in `ledger.sql` change."""

_UNCOUNTED = {"write_heartbeat", "add_completion", "write_catalog"}
"""Statements that change neither frames nor runs."""


@dataclass(frozen=True, kw_only=True)
class KeptStructure:
    """The structure of a growing HDF5 file as of a flush, to be put back after a power cut."""

    path: str
    """of the file, relative to the storage folder"""
    run: str
    """as in the ledger's table of runs"""
    structure: bytes


class LedgerWriter(Ledger):
    """The ledger of one storage folder, to read and write.

    An older ledger with other tables is renamed; the writer fills a new one from the journals and
    the files.

    Args:
        path: `<storage>/ledger.sqlite`, created if absent.
    """

    def __init__(self, path: Path):
        super().__init__(path)
        _rename_if_old(path)
        self.changes = 0
        """how often frames or runs have been changed through this object"""
        self._db = self._connect()
        self._has_schema = True
        self._repair_stages()

    def add_frames(self, frames: Iterable[Frame]) -> None:
        """Enter new frames; those already known stay as they are."""
        self._write("add_frame", [_to_row(frame) for frame in frames])

    def mark_stored(
        self, frames: Iterable[Frame], structures: Iterable[KeptStructure] = ()
    ) -> None:
        """Record that frames are verified in their files, and what their spool reported of them.

        Args:
            frames: with all that their spool has told.
            structures: of their files, as they are now.
        """
        now = time.time()
        stored = [
            {
                "reference": frame.reference,
                "checksum": frame.checksum,
                "ended": frame.ended,
                "index": json.dumps(frame.index),
                "now": now,
            }
            for frame in frames
        ]
        self._write_all(
            ("keep_structure", [asdict(each) for each in structures]), ("mark_stored", stored)
        )

    def structure(self, path: str) -> bytes | None:
        """Return the structure that a growing file had when its frames were last marked stored."""
        rows = self._select("structure", path=path)
        return rows[0][0] if rows else None

    def keep_structure(self, structure: KeptStructure) -> None:
        """Record the structure of a growing file until its run is complete."""
        self._write("keep_structure", [asdict(structure)])

    def forget_structure(self, path: str) -> None:
        """Remove the structure of a file that was replaced by another."""
        self._write("forget_structure", [{"path": path}])

    def mark_catalogued(self, references: Iterable[str]) -> None:
        """Record that frames can be read through Tiled."""
        now = time.time()
        rows = [{"reference": reference, "now": now} for reference in references]
        self._write("mark_catalogued", rows)

    def mark_blocks_catalogued(self, base: str, stop: int) -> None:
        """Record the same of the blocks of `<base>/<number>` that end at `stop` or before."""
        row = {"base": base, "stop": stop, "now": time.time()}
        self._write("mark_blocks_catalogued", [row])

    def mark_missing(self, references: Iterable[str]) -> None:
        """Record that frames are not in their file any more: they are captured again."""
        self._write("mark_missing", [{"reference": reference} for reference in references])

    def mark_failed(self, reference: str, reason: str) -> None:
        """Record that a frame cannot be stored, and why."""
        self._write("mark_failed", [{"reference": reference, "reason": reason}])

    def retry(self, run: str, references: Iterable[str] = ()) -> None:
        """Move the failed frames of a run (or only some) back to `captured`, to be tried again.

        Those that are in no event stay failed: there is no row for them.
        """
        rows = [{"run": run, "reference": reference} for reference in references]
        self._write("retry_reference" if rows else "retry_run", rows or [{"run": run}])

    def give_up(self, run: str, reason: str, references: Iterable[str] = ()) -> None:
        """Record as failed all frames of a run (or only some) that still wait in a spool."""
        whole = {"run": run, "reason": reason}
        rows = [{**whole, "reference": reference} for reference in references]
        self._write("give_up_reference" if rows else "give_up_run", rows or [whole])

    def add_run(self, run: str) -> None:
        """Enter a run; one that is known already stays as it is."""
        self._write("add_run", [{"run": run}])

    def reopen_run(self, run: str) -> None:
        """Record that a run is not complete any more: it is processed again."""
        self._write("mark_run", [{"run": run, "complete": 0}])

    def complete_run(self, run: str) -> None:
        """Record that a run is complete: each reference catalogued or failed, stop in Tiled."""
        self._write_all(
            ("mark_run", [{"run": run, "complete": 1}]),
            ("add_completion", [{"run": run}]),
            ("forget_structures", [{"run": run}]),
        )

    def last_completed(self) -> str | None:
        """Return the run that became complete last."""
        rows = self._select("last_completed")
        return rows[0][0] if rows else None

    def catalog(self) -> KnownCatalog:
        """Return what is known of the catalog."""
        rows = self._select("catalog")
        return KnownCatalog(**rows[0]) if rows else KnownCatalog()

    def write_catalog(self, catalog: KnownCatalog) -> None:
        """Record what is known of the catalog."""
        self._write("write_catalog", [asdict(catalog)])

    def write_heartbeat(self, trouble: str) -> None:
        """Record that the writer is alive, and what keeps it from continuing."""
        self._write("write_heartbeat", [{"now": time.time(), "trouble": trouble}])

    def write_spool_fill(self, fill: SpoolFill) -> None:
        """Record how full a spool is."""
        self._write("write_spool_fill", [asdict(fill)])

    def forget_spool_fill(self, server: str | None = None) -> None:
        """Remove what is recorded about a spool; about all of them, if none is named."""
        self._write("forget_spool_fill", [{"server": server}])

    def _repair_stages(self) -> None:
        """Set damaged stages to captured: storing a frame again changes nothing."""
        for reference, run in self._select("damaged_stages"):
            logger.warning(
                "the stage of %s is damaged: its run is processed again", reference,
                extra={"action": "look"},
            )  # fmt: skip
            self._write_all(
                ("repair_stage", [{"reference": reference}]),
                ("mark_run", [{"run": plain(run), "complete": 0}]),
            )

    def _connect(self) -> sqlite3.Connection:
        db = connect(self.path)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        db.executescript(QUERIES["schema"])
        return db

    def _write(self, query: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Execute a statement for each row, in one transaction."""
        self._write_all((query, rows))

    def _write_all(self, *statements: tuple[str, Iterable[Mapping[str, Any]]]) -> None:
        """Execute several statements, each for its rows, in one transaction."""
        with self._lock:
            assert self._db is not None, "the ledger is closed"
            with self._db:
                for query, rows in statements:
                    self._db.executemany(QUERIES[query], rows)
            self.changes += statements[0][0] not in _UNCOUNTED


def _rename_if_old(path: Path) -> None:
    if not path.exists():
        return
    with closing(sqlite3.connect(path)) as db:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        tables = db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    if tables[0] and version != SCHEMA_VERSION:
        logger.warning("%s has tables of version %s: it is created again", path, version)
        for suffix in ("-wal", "-shm", ""):
            old = path.with_name(path.name + suffix)
            if old.exists():
                os.replace(old, path.with_name(f"{path.name}.{version}{suffix}"))


def _to_row(frame: Frame) -> dict[str, Any]:
    return vars(frame) | {
        "shape": json.dumps(frame.shape),
        "axes": json.dumps([asdict(axis) for axis in frame.axes]),
        "metadata": json.dumps(frame.metadata),
        "update": json.dumps(frame.update),
        "index": json.dumps(frame.index),
        "base": frame.reference.rpartition("/")[0],
        "now": time.time(),
    }
