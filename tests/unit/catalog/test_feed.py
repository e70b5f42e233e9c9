from pathlib import Path

from bluesky_em.catalog import Ending
from bluesky_em.catalog._feed import RunFeed
from bluesky_em.layout import Layout
from bluesky_em.ledger import Ledger


def test_a_run_of_which_not_even_the_start_was_kept_is_done_with_at_once(tmp_path: Path):
    layout, ledger = Layout(tmp_path), Ledger(tmp_path / "ledger.sqlite")
    layout.journal.mkdir()
    path = layout.journal_of("run")
    path.touch()  # its process died just then
    ledger.opened(path.stem)
    feed = RunFeed(path, None, ledger, layout, Ending(files_closed=True, abandoned=True))
    assert feed.step()
    assert ledger.is_complete("run")
    ledger.close()
