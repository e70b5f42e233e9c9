"""The reference: the name of a frame, which a trigger hands out instead of pixels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class ReferenceState(StrEnum):
    """The state of a reference. It never goes backwards."""

    CAPTURED = "captured"
    """Exposed; the frame is in its acquisition server's spool."""
    STORED = "stored"
    """In its file: flushed, checksum verified, released by the spool."""
    CATALOGUED = "catalogued"
    """Readable through Tiled."""
    FAILED = "failed"
    """Lost, for a known reason. Its index in the file holds the fill value."""

    def reached(self, other: ReferenceState) -> bool:
        """Return whether this state is `other` or a later one.

        >>> ReferenceState.STORED.reached(ReferenceState.CAPTURED)
        True
        >>> ReferenceState.FAILED.reached(ReferenceState.STORED)
        False
        """
        order = [ReferenceState.CAPTURED, ReferenceState.STORED, ReferenceState.CATALOGUED]
        if ReferenceState.FAILED in (self, other):
            return self is other
        return order.index(self) >= order.index(other)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The name of one frame, which says where it is; its string is the model's `datum_id`.

    >>> Reference.parse("0b5c2d7e-1111-4222-8333-444455556666.eels/17").number
    17
    """

    run: str
    """Uid of the run; if no single run is open, another unique id (see `RefDetector`)."""
    detector: str
    """Name of the detector that took the frame, e.g. `eels`."""
    number: int
    """Count of the detector's exposures in that run, from 0."""

    def __post_init__(self) -> None:
        if not self.run or "/" in self.run:
            raise ValueError(
                f"{self.run!r} cannot be the run of a reference: give the run's uid, which is not "
                "empty and has no '/'"
            )
        if not self.detector or "/" in self.detector or "." in self.detector:
            raise ValueError(
                f"{self.detector!r} cannot be the detector of a reference: give the device a name "
                "without '/' and '.', e.g. name='eels'"
            )
        if self.number < 0:
            raise ValueError(
                f"{self.number} cannot be the number of a reference: numbers count from 0"
            )

    def __str__(self) -> str:
        return f"{self.base}/{self.number}"

    @property
    def base(self) -> str:
        """What all references of the detector in the run begin with: their resource's uid.

        databroker's MongoDB catalog takes what precedes the first `/` of a `datum_id` for it.
        """
        return base_of(self.run, self.detector)

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Create a reference from its string.

        Raises:
            ValueError: `text` is not `<run uid>.<detector>/<number>`.
        """
        base, _, number = str(text).partition("/")
        run, _, detector = base.rpartition(".")
        if not (run and detector and re.fullmatch(r"0|[1-9][0-9]{0,17}", number)):
            raise ValueError(
                f"{text!r} is not a reference: expected '<run uid>.<detector>/<number>', "
                "e.g. what `storage.references[-1]` or an event's data gives"
            )
        return cls(run=run, detector=detector, number=int(number))


def base_of(run: str, detector: str) -> str:
    """Return what all references of a detector in a run begin with, `<run uid>.<detector>`."""
    return f"{run}.{detector}"


def run_of(reference: str) -> str:
    """Return the run's uid in a reference, or in its beginning.

    >>> run_of("6f0caf7e.eels/17")
    '6f0caf7e'
    """
    return reference.partition("/")[0].rpartition(".")[0]
