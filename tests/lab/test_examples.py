"""Every example runs, in reading order, as a user types it."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
WORDS = {
    "01_first_spectrum.py": "zero loss at",
    "02_read_back.py": "xarray.Dataset",
    "03_third_party_detector.py": "blob",
    "04_spectrum_image.py": "titanium in",
}


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("examples")


def test_every_example_is_run_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(WORDS)


@pytest.mark.parametrize("name", sorted(WORDS))
def test_example(name: str, storage: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), str(storage)],
        capture_output=True, text=True, timeout=100, cwd=storage,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert WORDS[name] in done.stdout
