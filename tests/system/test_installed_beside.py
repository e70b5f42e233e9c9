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
@pytest.mark.parametrize("peer", PEERS)
def test_beside_us_a_package_has_the_series_that_it_has_alone(peer: str, ours: str) -> None:
    beside, alone = versions(peer, ours)[peer], versions(peer)[peer]
    assert series(beside) == series(alone), f"{peer} {beside} beside us, {alone} alone"


def test_all_of_them_are_installed_together_and_without_databroker_of_ours() -> None:
    together = versions(*PEERS, OURS[-1])
    assert together.keys() >= set(PEERS)
    assert "databroker" not in versions(OURS[-1])
