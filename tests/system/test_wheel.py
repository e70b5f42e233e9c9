"""The wheel, installed by pip or uv into an empty environment, is complete."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.pythons import pythons

ROOT = Path(__file__).parents[2]
SUPPORTED = [version for version in pythons() if version >= (3, 11)]
ENDS = {SUPPORTED[0], SUPPORTED[-1]}
UV = shutil.which("uv") or "uv"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([UV, "build", "--wheel", "-q", "-o", folder, ROOT], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(params=SUPPORTED, ids=lambda version: "{}.{}".format(*version))
def run(request: pytest.FixtureRequest, long: bool, tmp_path: Path) -> Run:
    """Run a program of an empty environment, in an empty folder."""
    if request.param not in ENDS and not long:
        pytest.skip("the oldest and the newest Python are tried; with --long, those between, too")
    subprocess.run([pythons()[request.param], "-m", "venv", tmp_path / "venv"], check=True)
    programs = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    # the oldest Python has what uv has installed already, the newest is for plain pip
    uses_uv = request.param == SUPPORTED[0]
    here = tmp_path / "here"
    here.mkdir()
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_"))}
    inherited["PIP_NO_COMPILE"] = "1"  # only what the demo imports is compiled, when it is

    def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [programs / program, *arguments]
        if program == "pip" and uses_uv:
            verb, *rest = arguments
            command = [UV, "pip", verb, "--python", programs / "python", *rest]
        return subprocess.run(
            command,
            capture_output=True, text=True, cwd=here, env=inherited, timeout=1200,
        )  # fmt: skip

    return run


@pytest.mark.timeout(3600)
def test_an_analyst_and_a_control_pc_install_what_they_need_and_the_demo_runs(
    wheel: Path, run: Run, tmp_path: Path
) -> None:
    assert run("pip", "install", "-q", str(wheel)).returncode == 0
    reads = run("python", "-W", "error", "-c", "from bluesky_em import Data; print(Data.__name__)")
    assert reads.stdout == "Data\n", reads.stderr
    for code in ("bluesky_em.Storage", "from bluesky_em import gatan"):
        refused = run("python", "-c", f"import bluesky_em; {code}")
        assert "pip install 'bluesky-em[control]'" in refused.stderr.splitlines()[-1]
    refused = run("bluesky-em", "demo")
    assert refused.returncode == 1 and len(refused.stderr.splitlines()) == 1
    assert "pip install 'bluesky-em[control]'" in refused.stderr

    assert run("pip", "install", "-q", f"{wheel}[control]").returncode == 0
    assert run("pip", "check").returncode == 0
    done = run("bluesky-em", "demo", "--json", "--points", "2", "--figure", "demo.png")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["catalogued"] == len(summary["references"]) == 2 and summary["failed"] == 0
    assert (tmp_path / "here" / "demo.png").exists()
    made = run("bluesky-em", "init")
    assert made.returncode == 0
    for name in ("plans/line_scan.py", "queue_server/00_session.py"):
        assert (tmp_path / "here" / name).exists()
