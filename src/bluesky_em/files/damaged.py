"""Names of damaged files, which are kept beside what takes their place."""

from __future__ import annotations

from itertools import count
from pathlib import Path

DAMAGED = ".damaged"
"""Appended to the name of a damaged file: nothing takes it for frames or for a journal."""


def free_name(path: Path) -> Path:
    """Return the name under which a damaged file is kept, so that no earlier one is replaced."""
    names = (path.with_name(f"{path.name}{DAMAGED}{n or ''}") for n in count())
    return next(name for name in names if not name.exists())


def kept_copies(path: Path) -> list[Path]:
    """Return the damaged files that are kept beside `path`."""
    return sorted(path.parent.glob(f"{path.name}{DAMAGED}*"))
