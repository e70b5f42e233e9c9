"""Catalogs of other Tiled versions than the installed one."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tiled.catalog.core import ALL_REVISIONS

from bluesky_em.storage.tiled_server import _catalog_version
from bluesky_em.storage.tiled_server._catalog_version import UnusableCatalog, upgrade

NEWEST, BEFORE = ALL_REVISIONS[:2]


def stamp(catalog: Path, revision: str) -> None:
    with closing(sqlite3.connect(catalog)) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS alembic_version (version_num)")
        database.execute("DELETE FROM alembic_version")
        database.execute("INSERT INTO alembic_version VALUES (?)", (revision,))


def revision_of(catalog: Path) -> str:
    with closing(sqlite3.connect(catalog)) as database:
        return database.execute("SELECT version_num FROM alembic_version").fetchone()[0]


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    stamp(tmp_path / "catalog.db", BEFORE)
    return tmp_path / "catalog.db"


def test_an_older_catalog_is_upgraded_after_a_copy(
    catalog: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    said: list[str] = []
    monkeypatch.setattr(_catalog_version, "_migrate", lambda *_: stamp(catalog, NEWEST))
    upgrade(catalog, "sqlite:///x", said.append)
    assert said == [f"it upgrades the catalog from revision {BEFORE} to {NEWEST} first"]
    assert revision_of(catalog) == NEWEST
    (copy,) = catalog.parent.glob(f"catalog-{BEFORE}-*.db")
    assert revision_of(copy) == BEFORE and str(copy) in caplog.text


def test_an_upgrade_that_fails_leaves_the_catalog_as_it_was(
    catalog: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        stamp(catalog, "half")
        raise sqlite3.OperationalError("no such column\nand much more")

    monkeypatch.setattr(_catalog_version, "_migrate", fail)
    with pytest.raises(UnusableCatalog, match=r"cannot upgrade .*no such column\); .*as it was"):
        upgrade(catalog, "sqlite:///x", lambda _: None)
    assert revision_of(catalog) == BEFORE
    assert [path.name for path in catalog.parent.iterdir()] == ["catalog.db"]


def test_a_newer_catalog_is_refused_with_its_revision_and_what_to_install(catalog: Path) -> None:
    stamp(catalog, "ffff00001111")
    with pytest.raises(UnusableCatalog, match=r"revision ffff00001111.*Install a newer tiled"):
        upgrade(catalog, "sqlite:///x", lambda _: None)


def test_a_new_catalog_and_one_of_this_version_are_left_alone(catalog: Path) -> None:
    stamp(catalog, NEWEST)
    for path in (catalog, catalog.with_name("absent.db")):
        upgrade(path, "sqlite:///x", pytest.fail)
    assert [path.name for path in catalog.parent.iterdir()] == ["catalog.db"]
