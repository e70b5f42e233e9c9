"""The ledger: how far each reference has got.

Only the writer writes it; anyone may read it meanwhile (SQLite in WAL mode). A stage moves in one
direction, so doing a step twice changes nothing.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bluesky_em.axes import Axis
from bluesky_em.frame import Frame
from bluesky_em.reference import ReferenceState

logger = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS run (
    uid TEXT PRIMARY KEY,
    complete INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS frame (
    reference TEXT PRIMARY KEY,
    run TEXT NOT NULL, stream TEXT NOT NULL, detector TEXT NOT NULL,
    number INTEGER NOT NULL, row INTEGER NOT NULL,
    server TEXT NOT NULL, path TEXT NOT NULL,
    shape TEXT NOT NULL, dtype TEXT NOT NULL, checksum INTEGER NOT NULL,
    axes TEXT NOT NULL, metadata TEXT NOT NULL, ended REAL NOT NULL,
    count INTEGER NOT NULL, base TEXT NOT NULL, "update" TEXT NOT NULL, "index" TEXT NOT NULL,
    stage TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '',
    captured_at REAL NOT NULL, stored_at REAL, catalogued_at REAL
);
CREATE INDEX IF NOT EXISTS frame_number ON frame (base, number);
CREATE INDEX IF NOT EXISTS frame_stage ON frame (stage);
CREATE INDEX IF NOT EXISTS frame_run ON frame (run);
CREATE INDEX IF NOT EXISTS frame_stored ON frame (stored_at);
CREATE INDEX IF NOT EXISTS frame_server ON frame (server);
CREATE TABLE IF NOT EXISTS pulse (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    beat REAL NOT NULL, trouble TEXT NOT NULL
);
"""
_VERSION = 2
"""Of the tables; raised when they change."""
SILENCE = 10.0  # seconds without a sign of life, after which the writer is called dead or stuck
_BATCH = 500  # references per statement; SQLite allows 999 variables


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What the ledger knows of one reference."""

    frame: Frame
    stage: ReferenceState
    reason: str
    """Why it failed; empty otherwise."""
    captured_at: float
    """When the writer learnt of it, s since the epoch."""
    stored_at: float | None
    catalogued_at: float | None


@dataclass(frozen=True, kw_only=True)
class Pulse:
    """The writer's last sign of life."""

    beat: float
    """s since the epoch; 0 if there never was one"""
    trouble: str
    """What keeps it from going on; empty when nothing does."""


class Ledger:
    """The ledger of one storage folder.

    Args:
        path: `<storage>/ledger.sqlite`.
        read_only: for everyone but the writer; the file may not exist yet.
    """

    def __init__(self, path: Path, *, read_only: bool = False):
        self.path = path
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._read_only = read_only
        self._closed = False
        self._has_tables = not read_only
        if not read_only:
            _put_aside_if_old(path)
            self._db = sqlite3.connect(path, check_same_thread=False, timeout=10.0)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute(f"PRAGMA user_version={_VERSION}")
            self._db.executescript(_SCHEMA)

    # -- the writer's side --

    def captured(self, frames: Iterable[Frame]) -> None:
        """Enter new frames; those already known stay as they are."""
        rows = [_to_row(frame) for frame in frames]
        with self._transaction() as db:
            db.executemany(
                "INSERT OR IGNORE INTO frame (reference, run, stream, detector, number, row,"
                " server, path, shape, dtype, checksum, axes, metadata, ended, count, base,"
                ' "update", "index", stage, captured_at)'
                " VALUES (:reference, :run, :stream, :detector, :number, :row, :server, :path,"
                " :shape, :dtype, :checksum, :axes, :metadata, :ended, :count, :base, :update,"
                " :index, 'captured', :now)",
                rows,
            )

    def stored(self, frames: Iterable[Frame]) -> None:
        """Note that frames are verified in their files, and what their spool said of them."""
        with self._transaction() as db:
            db.executemany(
                "UPDATE frame SET stage='stored', stored_at=?, checksum=?, ended=?, \"index\"=?"
                " WHERE reference=? AND stage='captured'",
                [
                    (time.time(), f.checksum, f.ended, json.dumps(f.index), f.reference)
                    for f in frames
                ],
            )

    def catalogued(self, references: Iterable[str]) -> None:
        """Note that frames can be read through Tiled."""
        with self._transaction() as db:
            db.executemany(
                "UPDATE frame SET stage='catalogued', catalogued_at=?"
                " WHERE reference=? AND stage='stored'",
                [(time.time(), reference) for reference in references],
            )

    def flown_catalogued(self, base: str, stop: int) -> None:
        """Note the same of the blocks of `<base>/<number>` that end at number `stop`, or before."""
        with self._transaction() as db:
            db.execute(
                "UPDATE frame SET stage='catalogued', catalogued_at=?"
                " WHERE base=? AND number + count <= ? AND stage='stored'",
                (time.time(), base, stop),
            )

    def failed(self, reference: str, reason: str) -> None:
        """Note that a frame is lost, and why."""
        with self._transaction() as db:
            db.execute(
                "UPDATE frame SET stage='failed', reason=? WHERE reference=? AND stage='captured'",
                (reason, reference),
            )

    def retried(self, run: str, references: Iterable[str] = ()) -> None:
        """Have a run's failed frames (or only some) tried again.

        Those that are in no event stay failed: there is no row for them.
        """
        chosen = list(references)
        with self._transaction() as db:
            db.executemany(
                "UPDATE frame SET stage='captured', reason='' WHERE run=? AND stage='failed'"
                " AND path != ''" + (" AND reference=?" if chosen else ""),
                [(run, reference) for reference in chosen] if chosen else [(run,)],
            )

    def given_up(self, run: str, reason: str, references: Iterable[str] = ()) -> None:
        """Note that all frames of a run (or only some) that still wait are lost, and why."""
        chosen = list(references)
        with self._transaction() as db:
            db.executemany(
                "UPDATE frame SET stage='failed', reason=? WHERE run=? AND stage='captured'"
                + (" AND reference=?" if chosen else ""),
                [(reason, run, reference) for reference in chosen] if chosen else [(reason, run)],
            )

    def opened(self, run: str) -> None:
        """Enter a run."""
        with self._transaction() as db:
            db.execute("INSERT OR IGNORE INTO run (uid) VALUES (?)", (run,))

    def reopened(self, run: str) -> None:
        """Note that a run is not complete any more: it is gone through again."""
        with self._transaction() as db:
            db.execute("UPDATE run SET complete=0 WHERE uid=?", (run,))

    def completed(self, run: str) -> None:
        """Note that a run is complete: every reference catalogued or failed, stop in Tiled."""
        with self._transaction() as db:
            db.execute("UPDATE run SET complete=1 WHERE uid=?", (run,))

    def beat(self, trouble: str) -> None:
        """Give a sign of life."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO pulse VALUES (1, ?, ?)", (time.time(), trouble))

    # -- everyone's side --

    def find(self, reference: str) -> Entry | None:
        """Give what is known of a reference; one inside a block is given by itself."""
        entry = self.block(reference)
        if entry is None:
            return None
        number = int(reference.rpartition("/")[2])
        return replace(entry, frame=entry.frame.part(number, number + 1))

    def block(self, reference: str) -> Entry | None:
        """Give the entry that a reference is in; of a fly scan that stands for a whole block."""
        base, number = _split(reference)
        entries = [] if number is None else self._entries(base, range(number, number + 1))
        return entries[0] if entries else None

    def blocks(self, base: str, numbers: range) -> list[Entry]:
        """Give what is known of the references `<base>/<number>`, in order, block by block."""
        return [
            replace(entry, frame=entry.frame.part(numbers.start, numbers.stop))
            for entry in self._entries(base, numbers)
        ]

    def frames(self, run: str) -> list[Entry]:
        """Give a run's references in the order of their events, those of a block as one."""
        rows = self._select("SELECT * FROM frame WHERE run=? ORDER BY rowid", run)
        return [_from_row(row) for row in rows]

    def stages(self, references: list[str]) -> dict[str, tuple[ReferenceState, str]]:
        """Give stage and reason of many references; unknown ones are left out."""
        rows = self._select_many("SELECT reference, stage, reason FROM frame", references)
        found = {row[0]: (ReferenceState(row[1]), row[2]) for row in rows}
        return found | self._stages_in_blocks([r for r in references if r not in found])

    def releasable(self, references: list[str]) -> list[str]:
        """Give those that no spool need keep: in a verified file, or in no event at all."""
        rows = self._select_many("SELECT reference, stage, path FROM frame", references)
        return [
            r[0]
            for r in rows
            if r[1] in (ReferenceState.STORED, ReferenceState.CATALOGUED) or not r[2]
        ]

    def counts(self) -> dict[ReferenceState, int]:
        """Count references by stage."""
        rows = self._select("SELECT stage, SUM(count) FROM frame GROUP BY stage")
        return dict.fromkeys(ReferenceState, 0) | {ReferenceState(row[0]): row[1] for row in rows}

    def lost(self) -> tuple[int, str]:
        """Count the frames that were in an event and have failed; give the last one's reason."""
        where = "FROM frame WHERE stage='failed' AND path != ''"
        last = self._select(
            f"SELECT reference || ': ' || reason {where} ORDER BY rowid DESC LIMIT 1"
        )
        return self._count(where), last[0][0] if last else ""

    def failures(self, most: int) -> list[str]:
        """Give the newest failed references, each with its reason."""
        query = "SELECT reference, reason FROM frame WHERE stage='failed' ORDER BY rowid DESC LIMIT"
        return [f"{row[0]}: {row[1]}" for row in self._select(f"{query} ?", most)]

    def servers(self) -> list[str]:
        """Give the acquisition servers from which frames ever came."""
        return [row[0] for row in self._select("SELECT DISTINCT server FROM frame ORDER BY 1")]

    def waiting_at(self, server: str) -> int:
        """Count the frames that wait in a server's spool."""
        return self._count("FROM frame WHERE server=? AND stage='captured'", server)

    def stored_since(self, moment: float) -> int:
        """Count the frames stored since then, s since the epoch."""
        return self._count("FROM frame WHERE stored_at >= ?", moment)

    def is_complete(self, run: str) -> bool | None:
        """Tell whether a run is complete; None if it is not known here (yet)."""
        rows = self._select("SELECT complete FROM run WHERE uid=?", run)
        return bool(rows[0][0]) if rows else None

    def complete_runs(self) -> set[str]:
        """Give the runs that need no more work."""
        return {row[0] for row in self._select("SELECT uid FROM run WHERE complete=1")}

    def pulse(self) -> Pulse:
        """Give the writer's last sign of life."""
        rows = self._select("SELECT beat, trouble FROM pulse")
        return Pulse(beat=rows[0][0], trouble=rows[0][1]) if rows else Pulse(beat=0.0, trouble="")

    def close(self) -> None:
        """Close; closing twice is harmless."""
        with self._lock:
            self._closed = True
            if self._db is not None:
                self._db.close()
                self._db = None

    def _stages_in_blocks(self, references: list[str]) -> dict[str, tuple[ReferenceState, str]]:
        """Look for references inside blocks, all of one detector's at once."""
        wanted: dict[str, set[int]] = {}
        for reference in references:
            base, number = _split(reference)
            if number is not None:
                wanted.setdefault(base, set()).add(number)
        return {
            f"{base}/{number}": (entry.stage, entry.reason)
            for base, numbers in wanted.items()
            for entry in self._entries(base, range(min(numbers), max(numbers) + 1))
            for number in numbers & set(entry.frame.numbers)
        }

    def _entries(self, base: str, numbers: range) -> list[Entry]:
        rows = self._select(
            "SELECT * FROM frame WHERE base=? AND number < ? AND number >="
            " (SELECT COALESCE(MAX(number), 0) FROM frame WHERE base=? AND number <= ?)"
            " AND number + count > ? ORDER BY number",
            base, numbers.stop, base, numbers.start, numbers.start,
        )  # fmt: skip
        return [_from_row(row) for row in rows]

    def _select(self, query: str, *values: Any) -> list[sqlite3.Row]:
        with self._lock:
            db = self._connected()
            return db.execute(query, values).fetchall() if db else []

    def _count(self, which: str, *values: Any) -> int:
        rows = self._select(f"SELECT COALESCE(SUM(count), 0) {which}", *values)
        return rows[0][0] if rows else 0

    def _select_many(self, query: str, references: list[str]) -> Iterator[sqlite3.Row]:
        for start in range(0, len(references), _BATCH):
            batch = references[start : start + _BATCH]
            marks = ",".join("?" * len(batch))
            yield from self._select(f"{query} WHERE reference IN ({marks})", *batch)

    def _connected(self) -> sqlite3.Connection | None:
        """Give the database; None while the writer has not made it yet."""
        if self._db is None and self._read_only and not self._closed and self.path.exists():
            # mode=rw, not ro: a reader of a WAL database must be able to make its -shm file
            uri = f"{self.path.absolute().as_uri()}?mode=rw"
            self._db = sqlite3.connect(uri, uri=True, check_same_thread=False, timeout=10.0)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA query_only=ON")
        if not self._has_tables and self._db is not None:
            query = "SELECT 1 FROM sqlite_master WHERE name='pulse'"  # which is made last
            self._has_tables = bool(self._db.execute(query).fetchall())
        return self._db if self._has_tables else None

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            assert self._db is not None, "only the writer's ledger can be written"
            with self._db:
                yield self._db


def _put_aside_if_old(path: Path) -> None:
    """Make room for a ledger with today's tables: the writer fills it from journals and files."""
    if not path.exists():
        return
    with closing(sqlite3.connect(path)) as db:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        tables = db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    if tables[0] and version != _VERSION:
        logger.warning("%s has tables of version %s: it is made anew", path, version)
        for suffix in ("-wal", "-shm", ""):
            old = path.with_name(path.name + suffix)
            if old.exists():
                os.replace(old, path.with_name(f"{path.name}.{version}{suffix}"))


def _split(reference: str) -> tuple[str, int | None]:
    """Take a reference apart; no number if it is none, or larger than there can be."""
    base, _, number = reference.rpartition("/")
    return base, int(number) if number.isdecimal() and len(number) <= 18 else None


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


def _from_row(row: sqlite3.Row) -> Entry:
    fields = {name: row[name] for name in Frame.__dataclass_fields__}
    fields["shape"] = tuple(json.loads(row["shape"]))
    fields["axes"] = tuple(Axis.load(axis) for axis in json.loads(row["axes"]))
    index = json.loads(row["index"])
    fields["index"] = None if index is None else tuple(index)
    for name in ("metadata", "update"):
        fields[name] = json.loads(row[name])
    return Entry(
        frame=Frame(**fields),
        stage=ReferenceState(row["stage"]),
        reason=row["reason"],
        captured_at=row["captured_at"],
        stored_at=row["stored_at"],
        catalogued_at=row["catalogued_at"],
    )
