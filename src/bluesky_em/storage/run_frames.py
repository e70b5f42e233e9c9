"""The frames that the runs of this process have handed out, counted for each detector."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bluesky_em.documents import Document, FlyScanFrames, ReferenceTracker


@dataclass(slots=True)
class HandedOut:
    """The frames of one detector in one run whose references are in its events."""

    base: str
    """their references are `<base>/<number>`"""
    run: str
    server: str
    """address of the acquisition server in whose spool they wait"""
    first: int
    """number of the first one"""
    stop: int
    """the number after the last one"""


def handed_out(
    run: str, tracker: ReferenceTracker, name: str, document: Document
) -> Iterator[HandedOut]:
    """Yield the frames in a document that the writer can store at once.

    Call it before the tracker learns the document. Frames that are in no event are left out, and
    so are those in an incomplete block of a fly scan: both may wait until the run ends.
    """
    for _, references in tracker.events(name, document):
        for reference in references.values():
            base, _, number = reference.rpartition("/")
            server = tracker.resource(tracker.datum(reference))["resource_kwargs"]["server"]
            yield HandedOut(base, run, server, int(number), int(number) + 1)
    frames = tracker.fly_scan_frames(name, document)
    if frames is not None:
        server, first = frames.scan["parameters"]["server"], frames.numbers.start
        yield HandedOut(frames.base, run, server, first, max(first, _end_of_blocks(frames)))


def _end_of_blocks(frames: FlyScanFrames) -> int:
    """Return the number after the last complete block; the last block of all may be shorter."""
    parameters, stop = frames.scan["parameters"], frames.numbers.stop
    if stop == frames.end:
        return stop
    return stop - (stop - parameters["first"]) % parameters["block"]


class RunFrames:
    """The frames that were handed out, by base; plans add to it while another thread reads it."""

    def __init__(self) -> None:
        self._by_base: dict[str, HandedOut] = {}

    def add(self, frames: HandedOut) -> None:
        """Add frames; a detector's numbers increase."""
        known = self._by_base.setdefault(frames.base, frames)
        known.stop = max(known.stop, frames.stop)

    def all(self) -> list[HandedOut]:
        """Return all frames that are not forgotten, one entry for each detector of a run."""
        return list(self._by_base.values())

    def forget(self, base: str) -> None:
        """Forget the frames of a detector in a run that has ended."""
        del self._by_base[base]
