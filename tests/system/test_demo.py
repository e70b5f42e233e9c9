"""The command `bluesky-em demo`, as a new user starts it."""

import json
import subprocess
import sys
from pathlib import Path

import matplotlib.image

from bluesky_em.files import journal_reader
from bluesky_em.files.layout import Layout


def test_the_demo_catalogues_every_reference_and_draws_its_figure(tmp_path: Path) -> None:
    figure = tmp_path / "demo.png"
    done = subprocess.run(
        [
            sys.executable, "-m", "bluesky_em", "demo", "--json", "--points", "4",
            "--exposure", "0.05", "--figure", str(figure), "--storage", str(tmp_path / "data"),
        ],
        capture_output=True, text=True, timeout=500,
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
    assert matplotlib.image.imread(figure).std() > 0.05  # it is not blank
    documents = journal_reader.read(Layout(tmp_path / "data").journal_of(summary["run_uid"]))
    streams = {d["name"] for name, d in documents if name == "descriptor"}
    assert streams == {"primary", "baseline"}
    for words in ("Storage continues in the background", "catalogued", "Data(", "….eels/3"):
        assert words in done.stderr


def test_the_demo_takes_a_map_in_one_fly_scan_and_draws_its_elements(tmp_path: Path) -> None:
    figure = tmp_path / "map.png"
    done = subprocess.run(
        [
            sys.executable, "-m", "bluesky_em", "demo", "--json", "--map", "12x10",
            "--exposure", "0.005", "--figure", str(figure),
        ],
        capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert [ref.partition(".")[2] for ref in summary["references"]] == ["eels/119", "adf/119"]
    assert (summary["catalogued"], summary["failed"]) == (240, 0)
    assert matplotlib.image.imread(figure).std() > 0.05
    assert "EELS map and dark field" in done.stderr and "….eels/0 to" in done.stderr


def test_a_malformed_map_shape_is_refused_with_an_example() -> None:
    command = [sys.executable, "-m", "bluesky_em", "demo", "--map", "64"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 1 and "is not LINESxPOINTS, e.g. 64x64" in done.stderr
