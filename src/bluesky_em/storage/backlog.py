"""The frames of this process that have not reached a stage yet, and since when none has."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from bluesky_em.files.ledger import Ledger
from bluesky_em.reference import ReferenceState

from .run_frames import HandedOut


@dataclass
class _Progress:
    """How far the frames of one detector in one run have come."""

    run: str
    done: int
    """number of the first frame that may not have reached the stage"""
    stop: int
    since: float
    """time of the last progress, or of the last look at which no frame waited; of a new run, that
    of the run before, if its frames of this detector wait, too"""


class Backlog:
    """Watches the way of frames to one stage. A failed frame waits for nothing any more.

    Args:
        ledger: of the storage folder.
        stage: STORED or CATALOGUED.
    """

    def __init__(self, ledger: Ledger, stage: ReferenceState):
        self._ledger = ledger
        self._stage = stage
        self._progress: dict[str, _Progress] = {}
        self._newest: dict[tuple[str, str], str] = {}
        """base of the newest run, by server and detector"""

    def waiting(self, runs: Collection[str]) -> int:
        """Return the number of frames of some runs that wait."""
        return sum(max(0, p.stop - p.done) for p in self._progress.values() if p.run in runs)

    def look(self, frames: Iterable[HandedOut], now: float) -> None:
        """Take note of what was handed out, then of what the ledger says about it.

        Raises:
            sqlite3.Error: the ledger cannot be read; then there is no progress.
        """
        for each in frames:
            known = self._progress.get(each.base) or self._begin(each, now)
            if known.done >= known.stop:
                known.since = now
            known.stop = each.stop
        for base, known in self._progress.items():
            if known.done < known.stop:
                done = self._ledger.first_before(self._stage, base, known.done)
                if done > known.done:
                    known.done, known.since = done, now

    def _begin(self, frames: HandedOut, now: float) -> _Progress:
        detector = frames.server, frames.base.rpartition(".")[2]
        before = self._progress.get(self._newest.get(detector, ""))
        since = before.since if before is not None and before.done < before.stop else now
        new = _Progress(run=frames.run, done=frames.first, stop=frames.stop, since=since)
        self._newest[detector] = frames.base
        self._progress[frames.base] = new
        return new

    def stalled(self, runs: Collection[str], now: float, timeout: float) -> str:
        """Describe frames of some runs that wait without progress; empty if there are none."""
        for base, known in self._progress.items():
            idle = now - known.since
            if known.run in runs and known.done < known.stop and idle >= timeout:
                return (
                    f"{known.stop - known.done} frames of {base.rpartition('.')[2]} wait to be "
                    f"{self._stage}, none of them has been for {idle:.0f} s"
                )
        return ""

    def has_all(self, base: str) -> bool:
        """Return whether no frame of a detector in a run waits."""
        return self._progress[base].done >= self._progress[base].stop

    def forget(self, base: str) -> None:
        """Forget the frames of a detector in a run."""
        del self._progress[base]

    def restart(self, now: float) -> None:
        """Count the time without progress from now on."""
        for known in list(self._progress.values()):
            known.since = now
