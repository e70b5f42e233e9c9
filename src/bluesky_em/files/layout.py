"""Where things are in a storage folder.

Why UTC in the date folders: the RunEngine's process and the writer, perhaps in another time zone,
must come to the same path from the run's start document alone.
"""

from __future__ import annotations

import re
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath

LONGEST = 48  # characters of a name in a path; Windows allows a whole path 260
JOURNAL_SUFFIX = ".msgpack"
_DEVICES = {
    *"con prn aux nul".split(),
    *(f"{port}{n}" for port in ("com", "lpt") for n in range(10)),
}
"""What Windows takes for a device, whatever the suffix."""


class Layout:
    """The places in one storage folder; makes none of them."""

    def __init__(self, root: Path):
        self.root = root
        self.journal = root / "journal"
        self.reserve = root / "reserve"
        self.requests = root / "requests"
        self.results = root / "results"
        self.data = root / "data"
        self.catalog = root / "catalog"
        self.catalog_lock = self.catalog / "server.lock"
        self.ledger = root / "ledger.sqlite"
        self.writer_lock = root / "writer.lock"
        self.writer_log = root / "writer.log"

    def try_writing(self) -> None:
        """Write what says that journals can be written.

        Raises:
            OSError: they cannot.
        """
        (self.journal / ".writable").touch()

    def journal_of(self, run: str) -> Path:
        """Give a run's journal."""
        return self.journal / f"{plain(run)}{JOURNAL_SUFFIX}"

    def journals(self) -> list[Path]:
        """Return the journals of all runs, sorted by name."""
        return sorted(self.journal.glob(f"*{JOURNAL_SUFFIX}"))

    def results_of(self, run: str) -> Path:
        """Give the file of what analyses have published of a run."""
        return self.results / f"{plain(run)}.jsonl"

    def frames_of(self, run: str, started: float, detector: str, stream: str | None = None) -> Path:
        """Give the file of a detector's frames in a run; `stream` only where it has several.

        Raises:
            ValueError: `started` is no time.
        """
        name = plain(detector) if stream is None else f"{plain(detector)}.{plain(stream)}"
        return self.folder_of(run, started) / f"{name}.h5"

    def master_of(self, run: str, started: float, suffix: str = ".nxs") -> Path:
        """Give a run's master file, beside the files it links to.

        Raises:
            ValueError: `started` is no time.
        """
        return self.folder_of(run, started) / f"{plain(run)}{suffix}"

    def folder_of(self, run: str, started: float) -> Path:
        """Give the folder of a run's files.

        Raises:
            ValueError: `started` is no time.
        """
        return self.data / _dated(run, started)


def plain(name: str) -> str:
    """Make a file name of a detector's, stream's or run's name: it can never leave its folder.

    Every file system takes it. Different names stay different, also where case does not count:
    what is not short, lower case and harmless gets a hash of what it was.

    >>> plain("eels")
    'eels'
    >>> plain("../../etc/passwd")
    '______etc_passwd-df406b03'
    """
    harmless = re.fullmatch(rf"[a-z0-9_-]{{1,{LONGEST}}}", name) and name not in _DEVICES
    if harmless and not re.search(r"-[0-9a-f]{8}$", name):  # which would look like a hash
        return name
    cleaned = re.sub(r"[^\w-]", "_", name, flags=re.ASCII)[: LONGEST - 9]
    return f"{cleaned}-{zlib.crc32(name.encode(errors='surrogatepass')):08x}"


def _dated(run: str, started: float) -> PurePosixPath:
    try:
        day = datetime.fromtimestamp(0, tz=UTC) + timedelta(seconds=started)
    except (ValueError, OverflowError):
        raise ValueError(
            f"a run cannot have started at {started!r}: its time is in seconds since 1970, "
            "e.g. time.time()"
        ) from None
    return PurePosixPath(f"{day.year:04}/{day:%m/%d}", plain(run))
