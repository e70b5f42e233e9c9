from collections.abc import Iterator
from pathlib import Path

import pytest

from bluesky_em.files.ledger_writer import LedgerWriter
from bluesky_em.reference import ReferenceState
from bluesky_em.storage.backlog import Backlog
from bluesky_em.storage.run_frames import HandedOut
from tests.support.ledger_frame import frame


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[LedgerWriter]:
    ledger = LedgerWriter(tmp_path / "ledger.sqlite")
    yield ledger
    ledger.close()


def one(run: str, detector: str = "eels") -> HandedOut:
    return HandedOut(base=f"{run}.{detector}", run=run, server="pc", first=0, stop=1)


def test_in_a_plan_of_short_runs_storing_has_stood_still_since_the_first_of_them(
    ledger: LedgerWriter,
):
    backlog = Backlog(ledger, ReferenceState.STORED)
    for number in range(7):
        backlog.look([one(f"run{n}") for n in range(number + 1)], now=5.0 * number)
    assert backlog.stalled({"run5"}, 29.0, timeout=30.0) == ""
    assert backlog.stalled({"run6"}, 30.0, timeout=30.0) == (
        "1 frames of eels wait to be stored, none of them has been for 30 s"
    )
    backlog.look([one("another", "haadf")], now=31.0)
    assert backlog.stalled({"another"}, 32.0, timeout=30.0) == ""


def test_an_old_frame_that_waits_does_not_count_for_runs_after_one_that_was_stored(
    ledger: LedgerWriter,
):
    backlog = Backlog(ledger, ReferenceState.STORED)
    backlog.look([one("old")], now=0.0)
    backlog.look([one("old"), one("run")], now=1.0)
    ledger.add_frames([frame(0)])
    ledger.mark_stored([frame(0)])
    backlog.look([one("old"), one("run")], now=2.0)
    assert backlog.has_all("run.eels")
    backlog.forget("run.eels")
    backlog.look([one("old"), one("next")], now=100.0)
    assert backlog.stalled({"next"}, 101.0, timeout=30.0) == ""
    assert backlog.stalled({"old"}, 101.0, timeout=30.0) != ""
