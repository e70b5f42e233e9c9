"""A catalog that lacks runs is noticed, and filled again."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bluesky_em.files.codec import pack
from bluesky_em.files.layout import Layout
from bluesky_em.files.ledger import KnownCatalog
from bluesky_em.files.ledger_writer import LedgerWriter
from bluesky_em.storage.catalog import _catalog_fill
from bluesky_em.storage.catalog._catalog_fill import CatalogFill
from bluesky_em.storage.catalog._run_in_tiled import is_in_tiled


class Catalog:
    """What Tiled has: a mark, and runs."""

    def __init__(self, *starts: str, runs: str = ""):
        mark = {"catalog": starts[0], "starts": [*starts]} if starts else None
        self.metadata: dict[str, Any] = {"bluesky_em": mark} if mark else {}
        self.runs = set(runs)


class Storage:
    """A storage folder with the complete runs a, b and c, of which c is the newest."""

    def __init__(self, root: Path, asked: list[str]):
        self.layout, self.ledger = Layout(root), LedgerWriter(root / "ledger.sqlite")
        self.asked, self.written = asked, list[str]()
        self.layout.journal.mkdir()
        for age, run in enumerate("abc"):
            path = self.layout.journal_of(run)
            path.write_bytes(pack("start", {"uid": run, "time": 0.0}) + pack("stop", {}))
            os.utime(path, (age, age))
            self.ledger.add_run(run)
            self.ledger.complete_run(run)

    def fill(self) -> CatalogFill:
        def write(path: Path, ending: Any) -> None:
            assert ending.files_closed and not ending.abandoned
            self.written.append(path.stem)
            self.ledger.complete_run(path.stem)

        return CatalogFill(self.layout, self.ledger, write)


class Failing:
    """Looks runs up as before, but for one, which leads to an error."""

    def __init__(self, run: str, error: Exception):
        self._run, self._error = run, error
        self._before = _catalog_fill.is_in_tiled

    def __call__(self, client: Any, layout: Layout, path: Path) -> bool:
        if path.stem == self._run:
            raise self._error
        return self._before(client, layout, path)


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    asked: list[str] = []

    def is_in_tiled(client: Catalog, _: Layout, path: Path) -> bool:
        asked.append(path.stem)
        return path.stem in client.runs

    monkeypatch.setattr(_catalog_fill, "is_in_tiled", is_in_tiled)
    storage = Storage(tmp_path, asked)
    yield storage
    storage.ledger.close()


def after_the_first_start(storage: Storage) -> None:
    storage.fill().compare(Catalog("1", runs="abc"))
    storage.asked.clear()


def filled(storage: Storage, client: Catalog) -> str:
    """Compare and fill; return what was wrong."""
    fill = storage.fill()
    fill.compare(client)
    trouble = fill.trouble
    for _ in range(5):
        fill.step(client)
    assert fill.trouble == ""
    return trouble


def test_one_run_is_looked_up_if_nothing_is_wrong(storage: Storage):
    after_the_first_start(storage)
    assert filled(storage, Catalog("1", "2", runs="abc")) == ""
    assert storage.asked == ["c"] and storage.written == []
    assert storage.ledger.catalog() == KnownCatalog(identity="1", start="2")


@pytest.mark.parametrize(
    ("client", "why"),
    [
        (Catalog("9", runs="a"), "another catalog"),
        (Catalog("1", "3", runs="a"), "an older copy of its catalog"),
        (Catalog(runs="a"), "another catalog"),
        (Catalog("1", "2", "3", runs="a"), "not have all of run c, which was complete"),
    ],
)
def test_a_catalog_that_lacks_runs_gets_them_newest_first(
    storage: Storage, client: Catalog, why: str
):
    after_the_first_start(storage)
    storage.fill().compare(Catalog("1", "2", runs="abc"))
    assert why in filled(storage, client)
    assert storage.written == ["c", "b"]


def test_the_next_writer_continues_with_a_catalog_that_is_not_filled_yet(storage: Storage):
    after_the_first_start(storage)
    client = Catalog("9")
    fill = storage.fill()
    fill.compare(client)
    fill.step(client)
    client.runs.add("c")
    assert "another catalog" in filled(storage, client)
    assert storage.written == ["c", "b", "a"]
    assert storage.ledger.catalog() == KnownCatalog(identity="9", start="9")


def test_a_ledger_that_knows_no_catalog_takes_the_one_it_finds(storage: Storage):
    assert filled(storage, Catalog("1", runs="c")) == ""


def test_a_damaged_journal_does_not_keep_the_others_out(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    after_the_first_start(storage)
    error = ValueError("damaged at byte 3")
    monkeypatch.setattr(_catalog_fill, "is_in_tiled", Failing("b", error))
    filled(storage, Catalog("9"))
    assert storage.written == ["c", "a"] and "damaged at byte 3" in caplog.text


def test_the_damaged_journal_of_the_newest_run_does_not_stop_cataloguing(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    after_the_first_start(storage)
    monkeypatch.setattr(_catalog_fill, "is_in_tiled", is_in_tiled)
    storage.layout.journal_of("c").write_bytes(b"\xc1")
    assert filled(storage, Catalog("1", "2", runs="ab")) == ""
    assert "run c cannot be compared" in caplog.text and "retry c" in caplog.text


def test_a_run_damaged_behind_its_head_is_left_out_and_not_counted(
    storage: Storage, caplog: pytest.LogCaptureFixture
):
    after_the_first_start(storage)
    with open(storage.layout.journal_of("b"), "ab") as journal:
        journal.write(b"\xc1")
    caplog.set_level(logging.WARNING)
    filled(storage, Catalog("9"))
    assert storage.written == ["c", "a"] and storage.ledger.is_complete("b")
    assert "run b cannot be compared" in caplog.text
    assert "Tiled has all complete runs but 1 again: 2 were written" in caplog.text


@pytest.mark.parametrize("error", [KeyError("rows"), TypeError("no mapping"), RecursionError()])
def test_a_run_with_odd_metadata_is_left_out(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    after_the_first_start(storage)
    monkeypatch.setattr(_catalog_fill, "is_in_tiled", Failing("b", error))
    filled(storage, Catalog("9"))
    assert storage.written == ["c", "a"]


@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), ConnectionResetError()])
def test_an_error_of_tiled_leaves_no_run_out(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    after_the_first_start(storage)
    fill = storage.fill()
    fill.compare(Catalog("9"))
    with monkeypatch.context() as away:
        away.setattr(_catalog_fill, "is_in_tiled", Failing("c", error))
        with pytest.raises(type(error)):
            fill.step(Catalog("9"))
    fill.step(Catalog("9"))
    assert storage.written == ["c"]
