"""Each example runs, in reading order, as a user starts it."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from bluesky_em import Data
from bluesky_em.acquisition.sim import Sample

EXAMPLES = Path(__file__).parents[2] / "examples"
WORDS = {
    "01_first_spectrum.py": "zero loss at",
    "02_read_back.py": "xarray.Dataset",
    "03_third_party_detector.py": "blob",
    "04_spectrum_image.py": "titanium in",
    "05_stop_when_aligned.py": "ended as success, because of aligned: True",
    "06_adaptive_map.py": "points of 400",
}


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("examples")


@pytest.fixture(scope="module")
def printed(storage: Path) -> Callable[[str], str]:
    """Return a function that runs an example once and returns its output."""

    @cache
    def run(name: str) -> str:
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / name), str(storage)],
            capture_output=True, text=True, timeout=500, cwd=storage,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def data(storage: Path) -> Iterator[Data]:
    data = Data(storage=storage)
    yield data
    data.close()


def test_each_example_is_run_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(WORDS)


@pytest.mark.parametrize("name", sorted(WORDS))
def test_example(name: str, printed: Callable[[str], str]) -> None:
    assert WORDS[name] in printed(name)


def test_the_scan_stops_where_the_specimen_becomes_thin(
    printed: Callable[[str], str], data: Data
) -> None:
    with data.follow(run_in(printed("05_stop_when_aligned.py")), patience=60) as run:
        points = list(run)
    x, y = 200e-9 * (np.linspace((0.5, 0.61), (0.95, 0.61), 500).T - 0.5)
    thickness = Sample().thickness(x, y)
    right = int(np.argmax(thickness < np.maximum.accumulate(thickness) / 2))
    assert 60 < right < 120
    assert abs(len(points) - 1 - right) <= 3
    assert run.end is not None and (run.end.status, run.end.reason) == ("success", "aligned: True")


def test_the_map_is_fine_where_titanium_is_and_finds_every_flake(
    printed: Callable[[str], str], data: Data
) -> None:
    with data.follow(run_in(printed("06_adaptive_map.py")), patience=60) as run:
        points = list(run)
        shape = tuple(run.start["shape"])
    verdicts = data.results(run.run)
    measured, found = np.zeros(shape, int), np.zeros(shape, bool)
    for point in points:
        x, y = (point.data[f"microscope-beam_{axis}"] for axis in "xy")
        at = int(y * shape[0]), int(x * shape[1])
        measured[at] += 1
        assert verdicts.wait(point.references["eels"], "edge", 5)
        found[at] = verdicts.get(point.references["eels"], "edge")
    assert measured.max() == 1
    assert measured.mean() <= 0.4

    y, x = (1e-6 * ((np.arange(size) + 0.5) / size - 0.5) for size in shape)
    oxide = Sample().matter(x[None, :], y[:, None]).oxide
    flakes = components(oxide > 0.05)
    assert len(flakes) == 5
    assert all(found[tuple(zip(*flake, strict=True))].any() for flake in flakes)
    assert not found[oxide == 0].any()
    thick = oxide > 0.2  # t/lambda
    assert measured[thick].mean() > 0.95 and found[thick].mean() > 0.9


def run_in(text: str) -> str:
    match = re.search(r"run ([0-9a-f-]{36})", text)
    assert match is not None
    return match[1]


def components(mask: np.ndarray) -> list[list[tuple[int, int]]]:
    """Return the points of each connected part."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    parts: list[list[tuple[int, int]]] = []
    while left:
        part = [left.pop()]
        for y, x in part:
            near = {(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)} & left
            left -= near
            part += near
        parts.append(part)
    return parts
