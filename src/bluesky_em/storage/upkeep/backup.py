"""Copy a storage folder while it is in use."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from bluesky_em.files.atomic import SUFFIX, whole_file
from bluesky_em.files.layout import Layout


def back_up(layout: Layout, target: Path) -> Iterator[Path]:
    """Copy journals, ledger, results and files to `target`; yield the path of each new copy.

    The copy has all frames that are stored when it begins. The ledger comes first: it has the
    structure of each file that grows, which makes the copy of such a file whole. A file that was
    copied before and has not changed since is not copied again. Tiled's databases are not copied:
    the next server fills a new catalog from the journals.

    Args:
        layout: the storage folder.
        target: a folder outside of it; created if absent.

    Raises:
        ValueError: `target` is inside the storage folder, or holds something else.
        OSError: there is no storage folder, or `target` cannot be written.
    """
    _check(layout, target)
    target.mkdir(parents=True, exist_ok=True)
    copy = Layout(target)
    with whole_file(copy.ledger) as part, closing(sqlite3.connect(part)) as new:
        with closing(sqlite3.connect(layout.ledger)) as old:
            old.backup(new)
    yield copy.ledger
    for folder in (layout.journal, layout.results, layout.data):
        for path in sorted(folder.rglob("*")):
            there = target / path.relative_to(layout.root)
            if path.is_file() and path.suffix not in (SUFFIX, ".lock") and _is_newer(path, there):
                there.parent.mkdir(parents=True, exist_ok=True)
                with whole_file(there) as part:
                    shutil.copy2(path, part)
                yield there


def _check(layout: Layout, target: Path) -> None:
    if not layout.ledger.exists():
        raise FileNotFoundError(f"{layout.root} is no storage folder: it has no {layout.ledger}")
    if target.resolve().is_relative_to(layout.root.resolve()):
        raise ValueError(f"{target} is inside {layout.root}: name a folder on another disk")
    if target.exists() and any(target.iterdir()) and not Layout(target).ledger.exists():
        raise ValueError(f"{target} holds something else: name a new folder, or an earlier copy")


def _is_newer(path: Path, copy: Path) -> bool:
    if not copy.exists():
        return True
    one, other = path.stat(), copy.stat()
    return (one.st_size, one.st_mtime_ns) != (other.st_size, other.st_mtime_ns)
