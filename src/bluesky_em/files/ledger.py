"""The ledger: the stage of each reference, for all processes to read.

Only the writer writes it (`LedgerWriter`); others may read it at the same time (SQLite in WAL
mode). A stage moves in one direction, so doing a step twice changes nothing.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bluesky_em.axes import Axis
from bluesky_em.frame import Frame
from bluesky_em.reference import ReferenceState

from . import named_queries

HEARTBEAT_TIMEOUT = 5.0  # seconds without a heartbeat, after which the writer is dead or stuck
QUERIES = named_queries.load("ledger.sql")
_BATCH_LIMIT = 500  # references per statement; SQLite allows 999 variables
_BUSY_TIMEOUT = 10.0  # seconds that another connection may hold the database


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One reference or block in the ledger."""

    frame: Frame
    stage: ReferenceState
    reason: str
    """why it failed; empty otherwise"""
    captured_at: float
    """when the writer entered it, s since the epoch"""
    stored_at: float | None
    catalogued_at: float | None


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """The last time the writer reported that it is alive."""

    time: float
    """s since the epoch; 0 if there never was one"""
    trouble: str
    """what keeps the writer from continuing; empty when nothing does"""


@dataclass(frozen=True, kw_only=True)
class SpoolFill:
    """How full the spool of an acquisition server was when the writer saw it last."""

    server: str
    """its address"""
    bytes: int
    """of the frames that wait"""
    capacity: int
    """bytes that it can hold"""

    @property
    def level(self) -> float:
        """The part that is filled, 0 to 1."""
        return self.bytes / max(1, self.capacity)


@dataclass(frozen=True, kw_only=True)
class KnownCatalog:
    """The catalog to which the feed wrote last."""

    identity: str = ""
    """empty if it has none: another Tiled server than the embedded one gives none"""
    start: str = ""
    """the last start of its server; a copy that was made before it does not know of it"""
    lacks: str = ""
    """why runs may be missing in it that are complete; empty once they have been added"""


class Ledger:
    """The ledger of one storage folder, to read.

    Args:
        path: `<storage>/ledger.sqlite`; the file may not exist yet.
    """

    def __init__(self, path: Path):
        self.path = path
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._closed = False
        self._has_schema = False

    def find(self, reference: str) -> Entry | None:
        """Return the entry of a reference, or None; one inside a block is cut out of it."""
        entry = self.block(reference)
        if entry is None:
            return None
        number = int(reference.rpartition("/")[2])
        return replace(entry, frame=entry.frame.part(number, number + 1))

    def block(self, reference: str) -> Entry | None:
        """Return the entry that holds a reference, or None; in a fly scan it is a whole block."""
        base, number = _split(reference)
        entries = [] if number is None else self._entries(base, range(number, number + 1))
        return entries[0] if entries else None

    def blocks(self, base: str, numbers: range) -> list[Entry]:
        """Return the entries of the references `<base>/<number>`, in order, block by block."""
        return [
            replace(entry, frame=entry.frame.part(numbers.start, numbers.stop))
            for entry in self._entries(base, numbers)
        ]

    def frames(self, run: str) -> list[Entry]:
        """Return a run's entries in the order of their events; a block is one entry."""
        return [_from_row(row) for row in self._select("frames_of_run", run=run)]

    def growing(self) -> list[Entry]:
        """Return one entry of each file that grows."""
        return [_from_row(row) for row in self._select("growing")]

    def stages(self, references: list[str]) -> dict[str, tuple[ReferenceState, str]]:
        """Return stage and reason of many references; unknown ones are left out."""
        rows = self._select_references("stages", references)
        found = {row[0]: (ReferenceState(row[1]), row[2]) for row in rows}
        return found | self._stages_in_blocks([r for r in references if r not in found])

    def releasable(self, references: list[str]) -> list[str]:
        """Return those that no spool need keep: in a verified file, or in no event at all."""
        kept = (ReferenceState.STORED, ReferenceState.CATALOGUED)
        rows = self._select_references("stages_and_paths", references)
        return [reference for reference, stage, path in rows if stage in kept or not path]

    def counts(self) -> dict[ReferenceState, int]:
        """Count references by stage; all stages are named."""
        rows = self._select("counts")
        return dict.fromkeys(ReferenceState, 0) | {ReferenceState(row[0]): row[1] for row in rows}

    def failed_in_events(self, run: str) -> tuple[int, str]:
        """Count a run's failed frames that are in an event; return also the newest one's reason."""
        newest = self._select("last_failed_in_events", run=run)
        reason = f"{newest[0][0]}: {newest[0][1]}" if newest else ""
        return self._count("count_failed_in_events", run=run), reason

    def first_before(self, stage: ReferenceState, base: str, start: int) -> int:
        """Return the first of the numbers `<base>/<number>` that is not `stage` yet.

        Args:
            stage: STORED or CATALOGUED; what is failed does not count.
            base: of the references.
            start: where to begin; the first number of an entry, or not in the ledger yet.
        """
        rows = self._select(f"first_before_{stage}", base=base, start=start)
        return start if not rows or rows[0][0] is None else rows[0][0]

    def spool_fills(self) -> list[SpoolFill]:
        """Return how full the spools are in which frames wait."""
        rows = self._select("spool_fills") if self._select("has_spools") else []
        return [SpoolFill(**row) for row in rows]

    def newest_failures(self, limit: int) -> list[str]:
        """Return the newest failed references, each with its reason."""
        return [f"{row[0]}: {row[1]}" for row in self._select("newest_failures", limit=limit)]

    def servers(self) -> list[str]:
        """Return the acquisition servers of all frames, sorted."""
        return [row[0] for row in self._select("servers")]

    def waiting_at(self, server: str) -> int:
        """Count the frames that wait in a server's spool."""
        return self._count("count_waiting_at_server", server=server)

    def stored_since(self, time: float) -> int:
        """Count the frames stored since a time, s since the epoch."""
        return self._count("count_stored_since", time=time)

    def is_complete(self, run: str) -> bool | None:
        """Check whether a run is complete; None if it is unknown here, or not known yet."""
        rows = self._select("is_complete", run=run)
        return bool(rows[0][0]) if rows else None

    def complete_runs(self) -> set[str]:
        """Return the runs that need no more work."""
        return {row[0] for row in self._select("complete_runs")}

    def heartbeat(self) -> Heartbeat:
        """Return the writer's last heartbeat."""
        for time, trouble in self._select("heartbeat"):
            return Heartbeat(time=time, trouble=trouble)
        return Heartbeat(time=0.0, trouble="")

    def close(self) -> None:
        """Close; closing twice is harmless."""
        with self._lock:
            self._closed = True
            if self._db is not None:
                self._db.close()
                self._db = None

    def _stages_in_blocks(self, references: list[str]) -> dict[str, tuple[ReferenceState, str]]:
        """Find references inside blocks, all of one detector at once."""
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
        rows = self._select("blocks", base=base, start=numbers.start, stop=numbers.stop)
        return [_from_row(row) for row in rows]

    def _select(self, query: str, **values: Any) -> list[sqlite3.Row]:
        return self._execute(QUERIES[query], values)

    def _count(self, query: str, **values: Any) -> int:
        rows = self._select(query, **values)
        return rows[0][0] if rows else 0

    def _select_references(self, query: str, references: list[str]) -> Iterator[sqlite3.Row]:
        for start in range(0, len(references), _BATCH_LIMIT):
            batch = references[start : start + _BATCH_LIMIT]
            marks = ",".join("?" * len(batch))
            yield from self._execute(QUERIES[query].replace("$references", marks), batch)

    def _execute(self, statement: str, values: Any) -> list[sqlite3.Row]:
        with self._lock:
            db = self._connection()
            return db.execute(statement, values).fetchall() if db else []

    def _connection(self) -> sqlite3.Connection | None:
        """Return the database, or None until the writer has created it, and once closed."""
        if self._db is None and not self._closed:
            self._db = self._connect()
        if not self._has_schema and self._db is not None:
            self._has_schema = bool(self._db.execute(QUERIES["has_schema"]).fetchall())
        return self._db if self._has_schema else None

    def _connect(self) -> sqlite3.Connection | None:
        if not self.path.exists():
            return None
        # mode=rw, not ro: a reader of a WAL database must be able to create its -shm file
        db = connect(f"{self.path.absolute().as_uri()}?mode=rw", uri=True)
        db.execute("PRAGMA query_only=ON")
        return db


def connect(path: Path | str, *, uri: bool = False) -> sqlite3.Connection:
    """Connect to a ledger's database; the connection may be used in any thread, one at a time."""
    db = sqlite3.connect(path, uri=uri, check_same_thread=False, timeout=_BUSY_TIMEOUT)
    db.row_factory = sqlite3.Row
    return db


def _split(reference: str) -> tuple[str, int | None]:
    """Split a reference into base and number; None if there is none, or it is too large."""
    base, _, number = reference.rpartition("/")
    return base, int(number) if number.isdecimal() and len(number) <= 18 else None


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
