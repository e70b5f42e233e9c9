"""Atomic writing: a file with its final name is complete, also after a crash or a power cut.

Everything is written under a temporary name in the same folder, synced, and then renamed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SUFFIX = ".part"
"""Appended to a file's name while it is being written; `bluesky-em doctor` removes leftovers."""


def write_whole(
    path: Path, data: bytes | str, *, sync: bool = True, mode: int | None = None
) -> None:
    """Write a file atomically, replacing an earlier one; on an error nothing has changed.

    Args:
        path: of the file; its folder exists.
        data: the file's content; a string is encoded as UTF-8.
        sync: wait until the file survives a power cut.
        mode: permissions, e.g. 0o600; they are set before the data are written.

    Raises:
        OSError: the file cannot be written; on Windows also while another process reads it.
    """
    with whole_file(path, sync=sync) as part:
        if mode is not None:
            part.unlink(missing_ok=True)  # a leftover may have other permissions
            os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
        part.write_bytes(data.encode() if isinstance(data, str) else data)


@contextmanager
def whole_file(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary path to write to; it becomes `path` when the block ends without an error.

    Raises:
        OSError: as `write_whole`.
    """
    part = path.with_name(path.name + SUFFIX)
    try:
        yield part
        put_in_place(part, path, sync=sync)
    finally:
        with suppress(OSError):  # Windows cannot remove a file that is open
            part.unlink(missing_ok=True)


def put_in_place(part: Path, path: Path, *, sync: bool = True) -> None:
    """Rename a completely written and closed file of the same folder, replacing an earlier one."""
    if sync:
        sync_file(part)
    os.replace(part, path)
    if sync:
        sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Sync what any process has written to a file: it survives a power cut."""
    with open(path, "r+b") as file:  # Windows syncs only what is open for writing
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Sync a rename to disk; Windows and some network file systems cannot."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
