"""Python interpreters of this computer, by version."""

import shutil
import subprocess
from functools import cache
from pathlib import Path

OLDEST, NEWEST = 7, 20  # minor versions that are looked for


@cache
def pythons() -> dict[tuple[int, int], str]:
    """Return an interpreter of each version from 3.7 on, oldest first."""
    found: dict[tuple[int, int], str] = {}
    for minor in range(OLDEST, NEWEST):
        managed = sorted(Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python"))
        for python in (*map(str, managed), shutil.which(f"python3.{minor}")):
            # pyenv has commands also for versions that are not installed: ask
            if python and _version(python) == (3, minor):
                found[3, minor] = python
    return found


def _version(python: str) -> tuple[int, ...]:
    code = "import sys; print(*sys.version_info[:2])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return tuple(map(int, done.stdout.split())) if done.returncode == 0 else ()
