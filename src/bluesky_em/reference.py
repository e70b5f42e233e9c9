"""The reference: what a trigger hands out instead of pixels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class ReferenceState(StrEnum):
    """How far a reference has got. It never goes backwards."""

    CAPTURED = "captured"
    """Exposed; the frame waits in its acquisition server's spool."""
    STORED = "stored"
    """In its file, flushed, checksum verified; the spool has let go of it."""
    CATALOGUED = "catalogued"
    """Readable through Tiled."""
    FAILED = "failed"
    """Lost, with a reason. Its index in the file holds the fill value."""

    def reached(self, other: ReferenceState) -> bool:
        """Tell whether this stage is `other` or beyond it.

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
    """A self-locating name of one frame; as a string it is the document model's `datum_id`.

    >>> Reference.parse("0b5c2d7e-1111-4222-8333-444455556666/eels/17").number
    17
    """

    run: str
    """Run uid. Outside a single open run: a uid of its own (see `detector`)."""
    detector: str
    """Name of the detector that took the frame, e.g. `eels`."""
    number: int
    """Count of the detector's exposures in that run, from 0."""

    def __post_init__(self) -> None:
        if not self.run or "/" in self.run:
            raise ValueError(
                f"no reference can name the run {self.run!r}: a run's uid has no '/' and is not "
                "empty; the RunEngine's own are like that"
            )
        if not self.detector:
            raise ValueError(
                f"no reference can name the detector {self.detector!r}: give the device a name, "
                "e.g. name='eels'"
            )
        if self.number < 0:
            raise ValueError(f"no reference has the number {self.number}: it counts from 0")

    def __str__(self) -> str:
        return f"{self.run}/{self.detector}/{self.number}"

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Take a reference apart.

        Raises:
            ValueError: `text` is not `<run uid>/<detector>/<number>`.
        """
        run, _, rest = str(text).partition("/")
        detector, _, number = rest.rpartition("/")
        if not (run and detector and re.fullmatch(r"0|[1-9][0-9]{0,17}", number)):
            raise ValueError(
                f"{text!r} is not a reference: expected '<run uid>/<detector>/<number>', "
                "e.g. what `storage.references[-1]` or an event's data gives"
            )
        return cls(run=run, detector=detector, number=int(number))
