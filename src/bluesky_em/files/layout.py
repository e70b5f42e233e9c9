"""Paths in a storage folder.

Why UTC in the date folders: the RunEngine's process and the writer, which may be in another time
zone, must derive the same path from the run's start document alone.
"""

from __future__ import annotations

import re
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath

from . import storage_format

NAME_LIMIT = 48  # characters of a name in a path; Windows limits a whole path to 260
JOURNAL_SUFFIX = ".msgpack"
_DEVICES = {
    *"con prn aux nul".split(),
    *(f"{port}{n}" for port in ("com", "lpt") for n in range(10)),
}
"""Names that Windows reserves for devices, whatever the suffix."""


class Layout:
    """The paths in one storage folder; none of them is created."""

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
        self.writer_hang = root / "writer.hang"

    @classmethod
    def of(cls, folder: str | Path) -> Layout:
        """Return the layout of a folder that a user names.

        `..` and links are followed: whatever way leads to a folder, its files have one address in
        Tiled, which refuses all that are not below the folder it serves.

        Raises:
            OtherFormat: another version has written it.
        """
        root = Path(folder).expanduser().resolve()
        storage_format.check(root)
        return cls(root)

    def try_writing(self) -> None:
        """Check that journals can be written, by touching a file.

        Raises:
            OSError: they cannot be written.
        """
        (self.journal / ".writable").touch()

    def journal_of(self, run: str) -> Path:
        """Return the path of a run's journal."""
        return self.journal / f"{plain(run)}{JOURNAL_SUFFIX}"

    def journals(self) -> list[Path]:
        """Return the journals of all runs, sorted by name."""
        return sorted(self.journal.glob(f"*{JOURNAL_SUFFIX}"))

    @staticmethod
    def last_change(journal: Path) -> float:
        """Return when a journal was changed last, as `time.time` does.

        Raises:
            OSError: it is gone, or cannot be read.
        """
        return journal.stat().st_mtime

    def results_of(self, run: str) -> Path:
        """Return the path of the results that analyses publish about a run."""
        return self.results / f"{plain(run)}.jsonl"

    def frames_of(self, run: str, started: float, detector: str, stream: str | None = None) -> Path:
        """Return the path of a detector's frames in a run; `stream` only where it has several.

        Raises:
            ValueError: `started` is not a time.
        """
        name = plain(detector) if stream is None else f"{plain(detector)}.{plain(stream)}"
        return self.folder_of(run, started) / f"{name}.h5"

    def master_of(self, run: str, started: float, suffix: str = ".nxs") -> Path:
        """Return the path of a run's master file, beside the files it links to.

        Raises:
            ValueError: `started` is not a time.
        """
        return self.folder_of(run, started) / f"{plain(run)}{suffix}"

    def folder_of(self, run: str, started: float) -> Path:
        """Return the folder of a run's files.

        Raises:
            ValueError: `started` is not a time.
        """
        return self.data / _dated(run, started)


def plain(name: str) -> str:
    """Return a file name for a detector, stream or run; it can never lead out of its folder.

    Every file system accepts it. Different names stay different, also where case does not count:
    a name that is not short, lower case and harmless gets a hash of the original.

    >>> plain("eels")
    'eels'
    >>> plain("../../etc/passwd")
    '______etc_passwd-df406b03'
    """
    harmless = re.fullmatch(rf"[a-z0-9_-]{{1,{NAME_LIMIT}}}", name) and name not in _DEVICES
    if harmless and not re.search(r"-[0-9a-f]{8}$", name):  # which would look like a hash
        return name
    cleaned = re.sub(r"[^\w-]", "_", name, flags=re.ASCII)[: NAME_LIMIT - 9]
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
