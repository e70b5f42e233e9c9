"""Lock files that living processes hold."""

from __future__ import annotations

from pathlib import Path

import filelock


def is_held(lock: Path) -> bool:
    """Check whether a living process holds a lock file."""
    if not lock.exists():
        return False
    try:
        with filelock.FileLock(lock, timeout=0):
            return False
    except filelock.Timeout:
        return True
