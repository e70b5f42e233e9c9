"""A catalog whose folder was moved, renamed or copied."""

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bluesky_em.storage.tiled_server._moved_folder import follow

RUN = "data/2026/01/02/run/eels.h5"
OLD = "/old/my data"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "new 50%" / "catalog").mkdir(parents=True)
    return tmp_path / "new 50%"


def catalog_of(root: Path, *uris: str) -> Path:
    catalog = root / "catalog" / "catalog.db"
    with closing(sqlite3.connect(catalog)) as database, database:
        database.execute("CREATE TABLE assets (id INTEGER PRIMARY KEY, data_uri UNIQUE)")
        database.execute(
            "CREATE TABLE data_source_asset_association "
            "(data_source_id, asset_id, UNIQUE (data_source_id, asset_id))"
        )
        for number, uri in enumerate(uris, 1):
            database.execute("INSERT INTO assets VALUES (?, ?)", (number, uri))
            database.execute(
                "INSERT INTO data_source_asset_association VALUES (?, ?)", (number, number)
            )
    return catalog


def assets_of(catalog: Path) -> list[str]:
    """The URI of each data source."""
    with closing(sqlite3.connect(catalog)) as database:
        joined = database.execute(
            "SELECT data_uri FROM assets JOIN data_source_asset_association ON asset_id = id "
            "ORDER BY data_source_id"
        )
        return [uri for (uri,) in joined.fetchall()]


def uris(root: str | Path) -> list[str]:
    return [
        f"file://{root}/{RUN}",
        f"duckdb://localhost/{root}/catalog/tables.duckdb",
        f"file://localhost{root}/catalog/arrays/run/trace",
    ]


def test_every_address_below_the_old_folder_follows_and_a_copy_remains(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = ["file:///beamline/data/2026/01/02/scan/x.h5", "file:///old/my data 2/x.h5"]
    catalog = catalog_of(root, *uris(OLD), *elsewhere)
    with caplog.at_level(logging.WARNING):
        follow(catalog, root)
    assert assets_of(catalog) == [*uris(root), *elsewhere]
    (copy,) = catalog.parent.glob("catalog-moved-*.db")
    assert assets_of(copy) == [*uris(OLD), *elsewhere]
    assert "3 addresses in its catalog have been changed" in caplog.text
    assert str(copy) in caplog.text
    follow(catalog, root)
    assert len(list(catalog.parent.glob("catalog-moved-*.db"))) == 1


def test_addresses_that_an_earlier_version_quoted_are_unquoted(root: Path) -> None:
    quoted = str(root).replace("%", "%25").replace(" ", "%20")
    catalog = catalog_of(root, f"file://{quoted}/{RUN}", uris(root)[1])
    follow(catalog, root)
    assert assets_of(catalog) == uris(root)[:2]


def test_a_folder_that_was_used_in_its_new_place_already_has_each_address_once(root: Path) -> None:
    catalog = catalog_of(root, *uris(OLD), uris(root)[1])
    follow(catalog, root)
    assert assets_of(catalog) == [*uris(root), uris(root)[1]]


def test_a_folder_below_the_old_one_is_no_reason_to_add_it_twice(root: Path) -> None:
    parent = str(root.parent)
    catalog = catalog_of(root, *uris(parent), f"file://{root}/{RUN}2")
    follow(catalog, root)
    assert assets_of(catalog) == [*uris(root), f"file://{root}/{RUN}2"]


def test_a_folder_that_stayed_and_a_new_one_are_left_alone(root: Path) -> None:
    follow(root / "catalog" / "catalog.db", root)
    assert list((root / "catalog").iterdir()) == []
    catalog = catalog_of(root, *uris(root))
    before = catalog.read_bytes()
    follow(catalog, root)
    assert catalog.read_bytes() == before
