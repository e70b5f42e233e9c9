import tracemalloc
from pathlib import Path

from bluesky_em.files.codec import pack
from bluesky_em.files.layout import Layout
from bluesky_em.files.ledger_writer import LedgerWriter
from bluesky_em.storage.catalog import RunEnding
from bluesky_em.storage.catalog._run_feed import RunFeed


def test_a_run_whose_journal_is_empty_is_complete_at_once(tmp_path: Path):
    layout, ledger = Layout(tmp_path), LedgerWriter(tmp_path / "ledger.sqlite")
    layout.journal.mkdir()
    path = layout.journal_of("run")
    path.touch()  # its process died just then
    ledger.add_run(path.stem)
    feed = RunFeed(path, None, ledger, layout, RunEnding(files_closed=True, abandoned=True))
    assert feed.step()
    assert ledger.is_complete("run")
    ledger.close()


def test_documents_behind_one_that_waits_stay_in_the_journal(tmp_path: Path):
    layout, ledger = Layout(tmp_path), LedgerWriter(tmp_path / "ledger.sqlite")
    layout.journal.mkdir()
    path = layout.journal_of("run")
    late = pack("event", {"data": {"text": "x" * 10_000}}) * 1000
    path.write_bytes(pack("stop", {"uid": "stop"}) + late)  # the files are not closed yet
    feed = RunFeed(path, None, ledger, layout, RunEnding())
    tracemalloc.start()
    assert not any(feed.step() for _ in range(3))
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 50_000
    feed.close()
    ledger.close()


def test_a_run_that_is_complete_in_tiled_is_reported_to_the_writer(tmp_path: Path):
    layout, ledger = Layout(tmp_path), LedgerWriter(tmp_path / "ledger.sqlite")
    layout.journal.mkdir()
    path, ending = layout.journal_of("run"), RunEnding(files_closed=True, abandoned=True)
    path.touch()
    feed = RunFeed(path, None, ledger, layout, ending)
    assert not ending.complete
    feed.step()
    assert ending.complete
    ledger.close()
