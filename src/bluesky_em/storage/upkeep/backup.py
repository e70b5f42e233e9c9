"""Copy a storage folder while it is in use."""

from __future__ import annotations

import filecmp
import logging
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from bluesky_em.files import storage_format
from bluesky_em.files.atomic import SUFFIX, whole_file
from bluesky_em.files.layout import Layout
from bluesky_em.files.ledger_writer import LedgerWriter

QUIET_TIMEOUT = 10.0  # seconds in which a file is copied again if it has changed meanwhile

logger = logging.getLogger(__name__)


def back_up(layout: Layout, target: Path) -> Iterator[Path]:
    """Copy journals, ledger, results and files to `target`; yield the path of each new copy.

    The copy has all frames that are stored when it begins. The ledger comes first: it has the
    structure of each file that grows, which makes the copy of a frames file whole, since its rows
    do not change. An array that frames change does: see `_copy_arrays`. A file that was copied
    before and has not changed since is not copied again. Tiled's databases are not copied: the next
    server fills a new catalog from the journals.

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
    storage_format.mark(target)
    yield copy.ledger
    arrays = list(_copy_arrays(layout.root, target))
    yield from arrays
    for folder in (layout.journal, layout.results, layout.data):
        for path in sorted(folder.rglob("*")):
            there = target / path.relative_to(layout.root)
            is_wanted = path.is_file() and path.suffix not in (SUFFIX, ".lock")
            if is_wanted and there not in arrays and _is_newer(path, there):
                there.parent.mkdir(parents=True, exist_ok=True)
                with whole_file(there) as part:
                    shutil.copy2(path, part)
                yield there


def _copy_arrays(root: Path, target: Path) -> Iterator[Path]:
    """Copy the growing arrays that frames change; yield the path of each copy.

    A copy of one moment is like the file of a killed writer: it has all that was stored, and needs
    no structure. If there is no such moment, the copy's ledger has its frames as not yet stored, so
    that the next writer checks each of them.
    """
    with closing(LedgerWriter(Layout(target).ledger)) as ledger:
        for first in [entry.frame for entry in ledger.growing()]:
            path, there = root / first.path, target / first.path
            if first.update is None or not path.exists():
                continue
            there.parent.mkdir(parents=True, exist_ok=True)
            if _copy_quiet(path, there):
                ledger.forget_structure(first.path)
            else:
                logger.warning(
                    "%s changed during each copy: frames that are not whole in the copy will be "
                    "`failed` there. Repeat the backup after run %s", path, first.run,
                    extra={"action": "backup"},
                )  # fmt: skip
                entries = [e for e in ledger.frames(first.run) if e.frame.path == first.path]
                ledger.mark_missing(entry.frame.reference for entry in entries)
            yield there


def _copy_quiet(path: Path, there: Path) -> bool:
    """Copy a file, again while it changes meanwhile; return whether it is of one moment.

    The file is read a second time and compared: time stamps are too coarse.
    """
    deadline = time.monotonic() + QUIET_TIMEOUT
    with whole_file(there) as part:
        while True:
            shutil.copy2(path, part)
            filecmp.clear_cache()
            is_same = filecmp.cmp(path, part, shallow=False)
            if is_same or time.monotonic() >= deadline:
                return is_same


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
