"""The number of a storage folder's format, which changes when older versions cannot read it.

1: references are `<run uid>/<detector>/<number>`; such a folder has no number.
2: references are `<run uid>.<detector>/<number>`.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from bluesky_em.errors import OtherFormat

from .atomic import write_whole

NUMBER = 2
FILE = "format.json"
"""In the storage folder; it has one entry, `format`."""


def check(root: Path) -> None:
    """Refuse a storage folder of another format; one that is absent or empty has none.

    Raises:
        OtherFormat: another version has written it.
    """
    path = root / FILE
    number = _number_in(path) if path.exists() else 1 if _has_old_references(root) else NUMBER
    if number < NUMBER:
        raise OtherFormat(
            f"{root} has format {number}, of an earlier version of bluesky-em; this one needs "
            f"{NUMBER}. Give a new folder for new runs. The earlier version still reads this one"
        )
    if number > NUMBER:
        raise OtherFormat(
            f"{root} has format {number}, of a newer version of bluesky-em; this one needs "
            f"{NUMBER}: update it (`pip install --upgrade bluesky-em`), or give another folder"
        )


def mark(root: Path) -> None:
    """Write the number into a storage folder that has none.

    A disk that is full is no reason not to begin: the next start writes it.
    """
    path = root / FILE
    if not path.exists():
        with suppress(OSError):
            write_whole(path, json.dumps({"format": NUMBER}) + "\n")


def _number_in(path: Path) -> int:
    try:
        number = json.loads(path.read_text())["format"]
    except (ValueError, KeyError, TypeError):
        number = None
    if type(number) is not int:
        raise OtherFormat(
            f"{path} is damaged: it should be {json.dumps({'format': NUMBER})}. Restore it from a "
            "backup, or write that if this version of bluesky-em has written the folder"
        )
    return number


def _has_old_references(root: Path) -> bool:
    """Check whether the ledger of a folder without a number has references of format 1."""
    ledger = root / "ledger.sqlite"
    if not ledger.exists():
        return False
    with suppress(sqlite3.Error), closing(sqlite3.connect(ledger, timeout=5.0)) as db:
        return bool(db.execute("SELECT 1 FROM frame WHERE base LIKE '%/%' LIMIT 1").fetchall())
    return False
