"""Every reference is accounted for exactly once after kills, power cuts and restored catalogs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bluesky_em.acquisition.instrument_pc import faults

KILLS = 60  # each process more than once, and each step; with --long MANY
MANY = 1000  # two hours
WITHOUT_TILED = 20  # runs; with --long twice MANY
HARNESS = Path(__file__).parents[2] / "benchmarks" / "faults.py"


@pytest.mark.timeout(7200)
def test_nothing_is_lost_doubled_or_wrong_after_kills_of_every_process_at_every_step(
    long: bool,
) -> None:
    kills, runs = (MANY, 2 * MANY) if long else (KILLS, WITHOUT_TILED)
    options = ["--kills", str(kills), "--without-tiled", str(runs), "--folders", "1", "--json"]
    done = subprocess.run([sys.executable, HARNESS, *options], stdout=subprocess.PIPE, text=True)
    outcome = json.loads(done.stdout)
    assert outcome["findings"] == [] and done.returncode == 0
    assert outcome["lost"] == outcome["doubled"] == outcome["wrong"] == outcome["unfinished"] == 0
    assert sum(outcome["kills"].values()) >= kills and outcome["runs_without_tiled"] == runs
    assert outcome["power_cuts"] and outcome["catalog_restores"] and outcome["published"]
    victims, steps = zip(*(kill.split(", ") for kill in outcome["kills"]), strict=True)
    assert set(steps) == {"at random", *faults.STEPS}
    assert {"engine", "writer", "Tiled server", "gatan server", "autoscript server"} <= set(victims)
    assert outcome["catalogued"] + outcome["failed"] >= outcome["references"] > 100
