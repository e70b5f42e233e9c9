"""A real Python 3.7, like the one that GMS and AutoScript bring along, and the software for it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import bluesky_em

PACKAGE = Path(bluesky_em.__file__).parent / "acquisition" / "instrument_pc"
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
NEEDED = ["numpy", "Pyro5", "msgpack"]
INSTALL_TIMEOUT = 300  # s


def find_python37() -> str:
    """Return the path of a Python 3.7; skip the test where there is none."""
    found = sorted(Path.home().glob(".pyenv/versions/3.7*/bin/python"))
    candidates = [*map(str, found), shutil.which("python3.7")]
    for python in filter(None, candidates):
        # pyenv has shims for versions that are not installed, too
        if subprocess.run([python, "--version"], capture_output=True).returncode == 0:
            return python
    pytest.skip("no Python 3.7 on this computer; pyenv can install one")


def environment37(cache: pytest.Cache) -> Path:
    """Return the Python of a virtual environment with the needed packages; made once."""
    folder = cache.mkdir("python37")
    python = folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    complete = folder / "complete"
    if not (complete.exists() and python.exists()):
        run([find_python37(), "-m", "venv", "--clear", str(folder / "venv")])
        run([str(python), "-m", "pip", "install", "--quiet", *NEEDED])
        complete.touch()
    return python


def copy_package(folder: Path) -> Path:
    """Copy the software of an instrument PC, alone, as a user does."""
    ignored = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(PACKAGE, folder / "instrument_pc", ignore=ignored))


def run(command: list[str], cwd: Path | None = None) -> str:
    """Run a command in that Python's own environment and return what it prints."""
    done = subprocess.run(
        command, cwd=cwd, env=clean_environment(), capture_output=True, text=True,
        timeout=INSTALL_TIMEOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def clean_environment() -> dict[str, str]:
    """Return this process's environment without what belongs to its Python, or to a server."""
    ours = ("PYTHON", "VIRTUAL_ENV", "BLUESKY_EM_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}
