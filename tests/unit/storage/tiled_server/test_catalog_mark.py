"""A catalog differs from another one, and from an older copy of itself."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pyarrow
import pytest
from tiled.structures.table import TableStructure

from bluesky_em.storage.tiled_server._catalog_mark import next_mark

TABLE = TableStructure.from_dict({"seq_num": [1], "X": [1.5]})


def start(folder: Path) -> dict[str, Any]:
    return next_mark(folder / "catalog.db", folder / "tables.duckdb")


def copy(folder: Path) -> Path:
    return Path(shutil.copytree(folder, folder.parent / f"{folder.name}-copy"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "catalog").mkdir()
    return tmp_path / "catalog"


def test_each_start_is_remembered_and_the_first_one_is_the_identity(folder: Path):
    first, second, third = start(folder), start(folder), start(folder)
    assert first["catalog"] == second["catalog"] == third["catalog"] == first["starts"][0]
    assert third["starts"][:2] == second["starts"] and len(set(third["starts"])) == 3


def test_an_older_copy_does_not_know_of_later_starts(folder: Path):
    before = start(folder)
    old = copy(folder)
    last = start(folder)["starts"][-1]
    found = start(old)
    assert found["catalog"] == before["catalog"] and last not in found["starts"]


@pytest.mark.parametrize("replaced", ["catalog.db", "tables.duckdb"])
def test_databases_of_different_starts_are_another_catalog(
    folder: Path, replaced: str, caplog: pytest.LogCaptureFixture
):
    before = start(folder)
    old = copy(folder)
    last = start(folder)["starts"][-1]
    start(folder)
    shutil.copy(old / replaced, folder / replaced)
    found = start(folder)
    assert found["catalog"] != before["catalog"] and last not in found["starts"]
    assert "do not belong together: one was replaced" in caplog.text
    assert start(folder)["catalog"] == found["catalog"]


def test_a_start_that_was_killed_between_the_two_databases_changes_nothing(folder: Path):
    before = start(folder)
    old = copy(folder)
    start(folder)
    shutil.copy(old / "catalog.db", folder / "catalog.db")  # it was not marked then
    found = start(folder)
    assert found["catalog"] == before["catalog"] and found["starts"][0] == before["starts"][0]


def test_a_new_database_of_tables_gets_those_that_the_catalog_needs(folder: Path):
    with closing(sqlite3.connect(folder / "catalog.db")) as nodes, nodes:
        nodes.execute("CREATE TABLE structures (id, structure)")
        nodes.execute("CREATE TABLE data_sources (structure_id, structure_family, parameters)")
        structure = {**vars(TABLE), "columns": [*TABLE.columns]}
        nodes.execute("INSERT INTO structures VALUES (1, ?)", [json.dumps(structure)])
        about = json.dumps({"table_name": "table_1", "dataset_id": 7})
        nodes.execute("INSERT INTO data_sources VALUES (1, 'table', ?)", [about])
    start(folder)
    with closing(duckdb.connect(str(folder / "tables.duckdb"))) as events:
        assert events.execute("SELECT nextval('_dataset_id_counter')").fetchone() == (8,)
        found = events.execute("SELECT * FROM table_1").arrow().read_all()
    names = ["_dataset_id", "_partition_id", "seq_num", "x"]
    assert found.num_rows == 0 and found.column_names == names
    assert found.schema.field("x").type == pyarrow.float64()
