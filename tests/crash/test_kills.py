"""Kills (SIGKILL) of each process at each step: every reference is accounted for exactly once."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bluesky_em.acquisition.instrument_pc import faults

KILLS = 52  # every process at every step; with --long MANY
MANY = 1000  # half an hour
HARNESS = Path(__file__).parents[2] / "benchmarks" / "faults.py"


@pytest.mark.timeout(7200)
def test_nothing_is_lost_doubled_or_wrong_after_kills_of_every_process_at_every_step(
    long: bool,
) -> None:
    kills = MANY if long else KILLS
    options = ["--kills", str(kills), "--folders", "1", "--settle", "120", "--json"]
    done = subprocess.run([sys.executable, HARNESS, *options], stdout=subprocess.PIPE, text=True)
    outcome = json.loads(done.stdout)
    assert outcome["findings"] == [] and done.returncode == 0
    assert outcome["lost"] == outcome["doubled"] == outcome["wrong"] == outcome["unfinished"] == 0
    assert sum(outcome["kills"].values()) >= kills
    victims, steps = zip(*(kill.split(", ") for kill in outcome["kills"]), strict=True)
    assert set(steps) == {"at random", *faults.STEPS}
    assert {"engine", "writer", "Tiled server", "gatan server", "autoscript server"} <= set(victims)
    assert outcome["catalogued"] + outcome["failed"] >= outcome["references"] > 100
