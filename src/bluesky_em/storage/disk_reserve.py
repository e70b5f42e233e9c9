"""Disk space held back for the journal, for when everything else has filled the disk."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from bluesky_em.files.atomic import whole_file

logger = logging.getLogger(__name__)

SIZE = 16 << 20  # bytes; about ten thousand events


class DiskReserve:
    """A file of some size that is given up when the disk is full.

    A file, and not a figure that is compared with the free space: whoever fills the disk does not
    know our figures.

    Args:
        path: of that file.
    """

    def __init__(self, path: Path):
        self._path = path

    def give_up(self) -> bool:
        """Free the space; tell whether there was any."""
        try:
            self._path.unlink()
        except OSError:
            return False
        logger.warning(
            "the disk of %s is full: documents now go into the last %d MB, frames stay in their "
            "spools. Free some space; nothing is lost so far",
            self._path.parent, SIZE >> 20,
            extra={"action": "reserve"},
        )  # fmt: skip
        return True

    def restore(self) -> None:
        """Hold space back again, if there is enough; raises OSError as a full disk does."""
        if self._path.exists() or shutil.disk_usage(self._path.parent).free < 2 * SIZE:
            return
        with whole_file(self._path, sync=False) as part, open(part, "wb") as file:
            for _ in range(SIZE >> 20):
                file.write(os.urandom(1 << 20))  # zeros, some file systems do not keep
