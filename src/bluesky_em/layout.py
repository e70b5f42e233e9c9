"""Where things are in a storage folder.

Why UTC in the date folders: the RunEngine's process and the writer, perhaps in another time zone,
must come to the same path from the run's start document alone.
"""

from __future__ import annotations

import re
import zlib
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath


class Layout:
    """The places in one storage folder; makes none of them."""

    def __init__(self, root: Path):
        self.root = root
        self.journal = root / "journal"
        self.reserve = root / "reserve"
        self.requests = root / "requests"
        self.data = root / "data"
        self.catalog = root / "catalog"
        self.catalog_lock = self.catalog / "server.lock"
        self.ledger = root / "ledger.sqlite"
        self.writer_lock = root / "writer.lock"
        self.writer_log = root / "writer.log"

    def journal_of(self, run: str) -> Path:
        """Give a run's journal."""
        return self.journal / f"{plain(run)}.msgpack"

    def frames_of(self, run: str, started: float, detector: str, stream: str = "") -> Path:
        """Give the file of a detector's frames in a run; `stream` only where it has several."""
        name = f"{plain(detector)}.{plain(stream)}" if stream else plain(detector)
        return self.folder_of(run, started) / f"{name}.h5"

    def folder_of(self, run: str, started: float) -> Path:
        """Give the folder of a run's files."""
        return self.data / _dated(run, started)


def plain(name: str) -> str:
    """Make a file name of a detector's, stream's or run's name: it can never leave its folder.

    Different names stay different: what had to be changed gets a hash of what it was.

    >>> plain("eels")
    'eels'
    >>> plain("../../etc/passwd")
    '______etc_passwd-df406b03'
    """
    cleaned = re.sub(r"[^\w-]", "_", name, flags=re.ASCII)
    return cleaned if cleaned == name else f"{cleaned}-{zlib.crc32(name.encode()):08x}"


def _dated(run: str, started: float) -> PurePosixPath:
    day = datetime.fromtimestamp(started, tz=UTC)
    return PurePosixPath(f"{day:%Y/%m/%d}", plain(run))
