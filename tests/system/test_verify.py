"""Whatever is changed in a run's files or in Tiled, `verify` finds it."""

import json
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import h5py
import numpy as np
import pyarrow
import pytest
from ophyd_async.core import Array1D, soft_signal_rw
from tiled.client import from_uri

from bluesky_em.app.session import Session
from bluesky_em.files.hdf5 import FramesReader
from bluesky_em.files.ledger import Ledger
from bluesky_em.files.tiled import table_rows
from bluesky_em.files.tiled.address import TiledAddress
from bluesky_em.files.tiled.renewal import renew
from bluesky_em.storage.upkeep.audit import audit_run

CHANGES = 50
EVENTS = 6

Change = Callable[[random.Random], Any]
"""Changes something; returns a context manager that puts it back at its end."""


@pytest.fixture
def run(session: Session, tiled: TiledAddress) -> Iterator["StoredRun"]:
    """A complete run with frames, scalars, words, and arrays of each kind."""
    number = soft_signal_rw(float, 1.5, name="number")
    word = soft_signal_rw(str, "on", name="word")
    trace = soft_signal_rw(Array1D[np.float64], np.arange(32.0), name="trace")
    few = soft_signal_rw(Array1D[np.int32], np.arange(3, dtype=np.int32), name="few")
    eels = session.devices["eels"]

    def plan() -> Any:
        yield from bps.mv(eels.exposure, 0.001)
        return (yield from bp.scan([eels, word, trace, few], number, 0.5, 3.0, EVENTS))

    (uid,) = session.RE(plan()).run_start_uids
    session.data.wait(uid, timeout=60)
    writer: Any = from_uri(tiled.uri, api_key=tiled.writer_key).include_data_sources()
    with closing(writer.context):
        yield StoredRun(session, writer, uid)


class StoredRun:
    """A run, and ways to change it."""

    def __init__(self, session: Session, catalog: Any, uid: str):
        self.session, self.uid = session, uid
        self.node = catalog[uid].base if hasattr(catalog[uid], "base") else catalog[uid]
        self.stream = catalog[uid]["primary"].base
        self.layout = session.storage.layout
        (self.folder,) = (path.parent for path in self.layout.data.rglob(f"{uid}/manifest.json"))

    def findings(self) -> list[str]:
        with closing(Ledger(self.layout.ledger)) as ledger:
            found = audit_run(self.layout, ledger, self.uid, self.session.data.catalog)
            return [str(finding) for finding in found]

    @property
    def changes(self) -> dict[str, Change]:
        return {
            "start": lambda chance: self.metadata(self.node, "start", chance),
            "stop": lambda chance: self.metadata(self.node, "stop", chance),
            "manifest in Tiled": lambda chance: self.metadata(self.node, "bluesky_em", chance),
            "data keys": lambda chance: self.metadata(self.stream, "data_keys", chance),
            "configuration": lambda chance: self.metadata(self.stream, "configuration", chance),
            "row map": lambda chance: self.metadata(self.stream["eels"], "bluesky_em", chance),
            "value": self.value,
            "rows": self.rows,
            "array": self.array,
            "frame": self.frame,
            "column": self.column,
            "axis": self.axis,
            "master": self.master,
            "forged stream": self.forged_stream,
            "forged array": self.forged_array,
            "manifest": self.manifest,
            "journal": self.journal,
        }

    @contextmanager
    def metadata(self, node: Any, key: str, chance: random.Random) -> Iterator[None]:
        before = node.item["attributes"]["metadata"][key]
        self.describe(node, key, changed(before, chance))
        yield
        self.describe(node, key, before)

    def describe(self, node: Any, key: str, value: Any) -> None:
        patch = [{"op": "add", "path": f"/{key}", "value": value}]
        node.patch_metadata(metadata_patch=patch, drop_revision=True)

    @contextmanager
    def table(self, change: Callable[[pyarrow.Table], pyarrow.Table]) -> Iterator[None]:
        table = self.stream["internal"]
        schema = table.structure().arrow_schema_decoded
        before = table_rows.read(table).cast(schema)
        for rows in (change(before), before):
            renew(table)
            if len(rows):
                table.append_partition(0, rows)
            if rows is not before:
                yield

    def value(self, chance: random.Random) -> Any:
        def change(rows: pyarrow.Table) -> pyarrow.Table:
            name, row = chance.choice(rows.column_names), chance.randrange(len(rows))
            values, kind = rows[name].to_pylist(), rows.field(name).type
            is_null = values[row] is None
            values[row] = (
                pyarrow.scalar(1).cast(kind).as_py() if is_null else changed(values[row], chance)
            )
            where = rows.column_names.index(name)
            column = pyarrow.array(values, kind)
            return rows.set_column(where, rows.field(name), column)

        return self.table(change)

    def rows(self, chance: random.Random) -> Any:
        def change(rows: pyarrow.Table) -> pyarrow.Table:
            order, row = [*range(len(rows))], chance.randrange(len(rows))
            kind = chance.randrange(3)
            if kind == 0:
                del order[row]
            elif kind == 1:
                order.insert(row, chance.choice(order))
            else:
                order[row], order[row - 1] = order[row - 1], order[row]
            return rows.take(order)

        return self.table(change)

    @contextmanager
    def array(self, chance: random.Random) -> Iterator[None]:
        array, row = self.stream["trace"], chance.randrange(EVENTS)
        before = array[row : row + 1]
        other = before.copy()
        other[0, chance.randrange(32)] += 1e-6
        array.patch(other, offset=(row,))
        yield
        array.patch(before, offset=(row,))

    @contextmanager
    def frame(self, chance: random.Random) -> Iterator[None]:
        path = self.folder / "eels.h5"
        with FramesReader(path) as reader:
            pixels = reader.read(chance.randrange(EVENTS)).tobytes()
        content = path.read_bytes()
        place = content.index(pixels) + chance.randrange(len(pixels))
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        yield
        path.write_bytes(content)

    @contextmanager
    def hdf5(self, change: Callable[[h5py.File], None]) -> Iterator[None]:
        path = self.folder / "eels.h5"
        content = path.read_bytes()
        with h5py.File(path, "r+", libver="latest") as file:
            change(file)
        yield
        path.write_bytes(content)

    def column(self, chance: random.Random) -> Any:
        def change(file: h5py.File) -> None:
            columns: Any = file["entry/frames"]
            columns[chance.choice([*columns])][chance.randrange(EVENTS)] += 7

        return self.hdf5(change)

    def axis(self, chance: random.Random) -> Any:
        def change(file: h5py.File) -> None:
            axis: Any = file["entry/data/energy"]
            axis[chance.randrange(len(axis))] += 0.5

        return self.hdf5(change)

    @contextmanager
    def master(self, chance: random.Random) -> Iterator[None]:
        path = self.folder / f"{self.uid}.nxs"
        content = path.read_bytes()
        place = chance.randrange(len(content))
        flipped = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        path.write_bytes(chance.choice([flipped, content[:place]]))
        if chance.randrange(3) == 0:
            path.unlink()
        yield
        path.write_bytes(content)

    def forged_stream(self, chance: random.Random) -> Any:
        return self.forged(lambda key: self.node.create_container(key), chance)

    def forged_array(self, chance: random.Random) -> Any:
        return self.forged(lambda key: self.stream.write_array(np.arange(6.0), key=key), chance)

    @contextmanager
    def forged(self, create: Callable[[str], Any], chance: random.Random) -> Iterator[None]:
        key = f"forged_{chance.randrange(2**32)}"  # the values of a deleted array stay on the disk
        create(key)
        yield
        database = self.layout.catalog / "catalog.db"  # no key can delete
        with closing(sqlite3.connect(database, timeout=10)) as db, db:
            db.execute("PRAGMA foreign_keys=ON")
            db.execute("DELETE FROM nodes WHERE key=?", [key])

    @contextmanager
    def manifest(self, chance: random.Random) -> Iterator[None]:
        path = self.folder / "manifest.json"
        before = path.read_text()
        path.write_text(json.dumps(changed(json.loads(before), chance)))
        yield
        path.write_text(before)

    @contextmanager
    def journal(self, chance: random.Random) -> Iterator[None]:
        path: Path = self.layout.journal_of(self.uid)
        content = path.read_bytes()
        place = chance.randrange(len(content))
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        yield
        path.write_bytes(content)


def changed(value: Any, chance: random.Random) -> Any:
    """Return a value with one change somewhere in it."""
    if isinstance(value, dict) and value:
        key = chance.choice(sorted(value))
        if chance.random() < 0.1:
            return {other: each for other, each in value.items() if other != key}
        return {**value, key: changed(value[key], chance)}
    if isinstance(value, list) and value:
        place = chance.randrange(len(value))
        return [*value[:place], changed(value[place], chance), *value[place + 1 :]]
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    return f"{value}x" if isinstance(value, str) else "x"


def test_of_fifty_random_changes_each_is_found(run: StoredRun) -> None:
    """The seed is printed."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    assert run.findings() == []
    kinds = [*run.changes] * (CHANGES // len(run.changes) + 1)
    missed = []
    for kind in kinds[:CHANGES]:
        with run.changes[kind](chance):
            if not run.findings():
                missed.append(kind)
    assert missed == [] and run.findings() == []
