"""Disk space reserved for the journals, used when the disk is full."""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import suppress
from pathlib import Path

from bluesky_em.files.atomic import whole_file

logger = logging.getLogger(__name__)

RESERVE_BYTES = 16 << 20  # about ten thousand events


class DiskReserve:
    """A file of `RESERVE_BYTES` that is deleted when the disk is full.

    A file, not a limit compared with the free space: other programs that fill the disk do not
    respect our limit.

    Args:
        path: of that file.
    """

    def __init__(self, path: Path):
        self._path = path

    def give_up(self) -> bool:
        """Delete the file; return whether this freed space."""
        try:
            self._path.unlink()
        except OSError:
            return False
        logger.warning(
            "the disk of %s is full: documents now go into the last %d MB, frames stay in their "
            "spools. Free some space; nothing is lost so far",
            self._path.parent, RESERVE_BYTES >> 20,
            extra={"action": "reserve"},
        )  # fmt: skip
        return True

    def restore(self) -> None:
        """Write the file again if it is missing and twice its size is free.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        if self._path.exists() or shutil.disk_usage(self._path.parent).free < 2 * RESERVE_BYTES:
            return
        with (
            suppress(FileNotFoundError),  # another process was faster
            whole_file(self._path, sync=False) as part,
            open(part, "wb") as file,
        ):
            for _ in range(RESERVE_BYTES >> 20):
                file.write(os.urandom(1 << 20))  # some file systems do not store zeros
