"""The ledger's records of the files that a writer lets grow."""

from __future__ import annotations

from bluesky_em.files.layout import plain
from bluesky_em.files.ledger_writer import KeptStructure, LedgerWriter
from bluesky_em.frame import Frame
from bluesky_em.reference import ReferenceState

IN_FILE = (ReferenceState.STORED, ReferenceState.CATALOGUED)


class FileRecords:
    """The stored frames and the structure of each file, in the ledger."""

    def __init__(self, ledger: LedgerWriter):
        self._ledger = ledger

    def stored(self, frame: Frame) -> list[Frame]:
        """Return the frames that are recorded as stored in the file of a frame."""
        entries = self._ledger.frames(frame.run)
        return [e.frame for e in entries if e.frame.path == frame.path and e.stage in IN_FILE]

    def structure(self, frame: Frame) -> bytes | None:
        """Return the structure that the file of a frame had when it was recorded last."""
        return self._ledger.structure(frame.path)

    def keep(self, frame: Frame, structure: bytes) -> None:
        """Record the structure of the file of a frame."""
        self._ledger.keep_structure(kept(frame, structure))

    def forget(self, frame: Frame) -> None:
        """Remove the structure of the file of a frame: another file takes its place."""
        self._ledger.forget_structure(frame.path)

    def take_back(self, frames: list[Frame]) -> None:
        """Record that frames are not in their file any more."""
        self._ledger.mark_missing([frame.reference for frame in frames])


def kept(frame: Frame, structure: bytes) -> KeptStructure:
    """Return the structure of the file of a frame for the ledger."""
    return KeptStructure(path=frame.path, run=plain(frame.run), structure=structure)
