"""The address of the embedded Tiled server, and why there is none."""

from pathlib import Path

import pytest

from bluesky_em import Data, NotReady
from bluesky_em.files.layout import Layout
from bluesky_em.files.ledger_writer import LedgerWriter
from bluesky_em.files.tiled.address import TiledAddress, publish, why_not_ready
from bluesky_em.storage.status import status_of
from bluesky_em.storage.upkeep.doctor import examine

ERROR = "catalog.db has revision ffff: install a newer tiled"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    for folder in (layout.catalog, layout.journal, layout.data):
        folder.mkdir()
    return layout


def start(layout: Layout, **about: object) -> None:
    publish(layout, TiledAddress(uri="http://127.0.0.1:1", api_key="", ready=False, **about))  # type: ignore


def test_a_server_that_starts_says_so_and_what_takes_long(layout: Layout) -> None:
    assert why_not_ready(layout) == "the embedded Tiled server is not ready yet (it takes 10-15 s)"
    start(layout, starts=2, note="it upgrades the catalog first")
    assert why_not_ready(layout).endswith("not ready yet (it upgrades the catalog first, start 2)")


def test_a_server_that_cannot_start_says_why_how_often_and_where_its_log_is(layout: Layout) -> None:
    start(layout, starts=3, error=ERROR)
    assert why_not_ready(layout) == (
        f"the embedded Tiled server cannot start (tried 3 times): {ERROR}. Its log: "
        f"{layout.catalog / 'server.log'}"
    )


def test_status_doctor_and_the_catalog_say_that_a_newer_tiled_is_needed(layout: Layout) -> None:
    start(layout, starts=1, error=ERROR, final=True)
    ledger = LedgerWriter(layout.ledger)
    assert ERROR in status_of(layout, ledger).tiled
    ledger.close()
    problems = [p for p in examine(layout, pytest.fail, 20) if ERROR in p.what]
    assert len(problems) == 1 and "open a Storage on the folder again" in problems[0].remedy
    data = Data(storage=layout.root)
    with pytest.raises(NotReady, match="is not started again.*install a newer tiled"):
        assert data.catalog
    data.close()
