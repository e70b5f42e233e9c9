"""What one exposure of an instrument leaves behind.

Python 3.7 syntax: this runs inside DigitalMicrograph.
"""

from __future__ import annotations

from typing import Any, Dict, Generator, List, NamedTuple, Optional

import numpy as np


class Exposure(NamedTuple):
    """One frame with its axes, its facts, and when it was taken."""

    array: np.ndarray
    """C-contiguous, little-endian, and its own: never a view of a vendor's buffer."""
    axes: List[Dict[str, Any]]
    """One per array dimension: name, units, offset, scale, size; value_i = offset + scale * i."""
    metadata: Dict[str, Any]
    """Plain scalars, strings and dictionaries, e.g. ``{"exposure": 0.1, "frames": 1}`` (s)."""
    started: float
    """`time.time()` at the beginning of the exposure."""
    ended: float
    """`time.time()` when the vendor's acquire call returned."""


Rows = Generator[Dict[str, Exposure], Optional[bool], None]
"""What `fly` of a driver is: rows of frames by detector, arrays of shape (n, *frame). Who sends it
True wants the last row again."""
