"""The package can be installed beside the others of the field, in recent versions of them."""

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.system.test_wheel import UV

ROOT = Path(__file__).parents[2]
PEERS = ("apsbits", "blueapi", "bluesky-queueserver", "apstools", "nslsii")
OURS = tuple(f"bluesky-em{extra} @ {ROOT.as_uri()}" for extra in ("", "[control]"))


@cache
def versions(*requirements: str) -> dict[str, str]:
    """Return the version of each package that the newest installation of these would have."""
    command = [UV, "pip", "compile", "-q", "--no-config", "--no-header", "--no-annotate", "-"]
    done = subprocess.run(
        command, input="\n".join(requirements), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{requirements}: {done.stderr}"
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)", done.stdout, re.MULTILINE))


def series(version: str) -> str:
    """Return the version without its last number: one older patch release may be chosen."""
    return version.rpartition(".")[0]


@pytest.mark.parametrize("ours", OURS, ids=["core", "control"])
def test_beside_us_each_of_them_has_the_series_that_it_has_alone(ours: str) -> None:
    beside = versions(*PEERS, ours)
    found = {peer: series(beside[peer]) for peer in PEERS}
    assert found == {peer: series(versions(peer)[peer]) for peer in PEERS}


def test_we_bring_no_databroker() -> None:
    assert "databroker" not in versions(OURS[-1])
