"""The main job: `bluesky-em demo`, as a newcomer types it."""

import json
import subprocess
import sys
from pathlib import Path

import matplotlib.image


def test_the_demo_catalogues_every_reference_and_draws_its_figure(tmp_path: Path) -> None:
    figure = tmp_path / "demo.png"
    done = subprocess.run(
        [
            sys.executable, "-m", "bluesky_em", "demo", "--json", "--points", "4",
            "--exposure", "0.05", "--figure", str(figure), "--storage", str(tmp_path / "data"),
        ],
        capture_output=True, text=True, timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert set(summary) == {
        "run_uid", "references", "exposure_seconds", "plan_seconds", "complete_seconds",
        "catalogued", "failed", "reference_latency_ms", "tiled", "figure",
    }  # fmt: skip
    assert summary["catalogued"] == len(summary["references"]) == 4 and summary["failed"] == 0
    assert summary["exposure_seconds"] == 0.2 < summary["plan_seconds"]
    assert set(summary["reference_latency_ms"]) == {"p50", "p99"}
    assert matplotlib.image.imread(figure).std() > 0.05  # something is drawn
    for words in ("Storage goes on behind its back", "catalogued", "Data(", "…/eels/3"):
        assert words in done.stderr
