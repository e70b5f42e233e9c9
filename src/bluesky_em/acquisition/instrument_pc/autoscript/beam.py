"""The microscope's beam: blanking, and the position of the probe (Python 3.7 syntax)."""

from __future__ import annotations

import contextlib
from typing import Any, Iterator, Optional, Tuple

READ_BACK_TOLERANCE = 0.02  # of the scan; the beam position reads back a little off


class Beam:
    """The beam of one connected microscope; one thread at a time may use it.

    Args:
        client: the vendor's client.
        structures: the vendor's module of that name.
    """

    def __init__(self, client: Any, structures: Any) -> None:
        self._client = client
        self._structures = structures
        self._target: Optional[Tuple[float, float]] = None

    def is_blanked(self) -> bool:
        """Return whether the beam is blanked."""
        optics = self._client.optics
        return bool(getattr(optics, "blanker", optics).is_beam_blanked)

    def blank(self, blanked: bool) -> None:
        """Blank or unblank the beam."""
        optics = self._client.optics
        blanker = getattr(optics, "blanker", optics)
        blanker.blank() if blanked else blanker.unblank()

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        """Unblank temporarily; blank again if it was blanked, and always after an error."""
        blank_after = True
        try:
            was_blanked = self.is_blanked()
            if was_blanked:
                self.blank(False)
            yield
            blank_after = was_blanked
        finally:
            if blank_after:
                self.blank(True)

    def position(self) -> Any:
        """Return the probe's position; `x` and `y` are fractions of the scan."""
        position = self._client.optics.paused_scan_beam_position
        return position if hasattr(position, "x") else self._structures.Point(*position)

    def move(self, x: Optional[float] = None, y: Optional[float] = None) -> None:
        """Move one coordinate; the other keeps the value that was last set here.

        The read-back fluctuates: writing it back would let the other coordinate drift. So the last
        value set counts, unless the beam has been moved from elsewhere since.
        """
        now = self.position()
        kept = (_clip(now.x), _clip(now.y))
        target = self._target
        if target is not None and _is_near(now, target):
            kept = target
        goal = (kept[0] if x is None else x, kept[1] if y is None else y)
        self._client.optics.paused_scan_beam_position = self._structures.Point(*goal)
        self._target = goal


def _clip(fraction: float) -> float:
    return min(max(float(fraction), 0.0), 1.0)


def _is_near(position: Any, target: Tuple[float, float]) -> bool:
    off = max(abs(position.x - target[0]), abs(position.y - target[1]))
    return off < READ_BACK_TOLERANCE
