from pathlib import Path

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
