"""C2: kill -9 of every process, at random and at every named step, and nothing is lost."""

from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import faults as slaughter
from bluesky_em import faults


@pytest.mark.timeout(240)
def test_no_reference_is_lost_doubled_or_wrong_whatever_is_killed(tmp_path: Path) -> None:
    outcome = slaughter.run(
        kills=2 * len(faults.STEPS) + 2, seed=7, folder=tmp_path / "s", console=Console(quiet=True),
        settle=100,
    )  # fmt: skip
    assert outcome.findings == []
    assert outcome.references > 100
    steps = {step for _, step in outcome.kills}
    assert steps >= set(faults.STEPS), "every step must have been died at"
