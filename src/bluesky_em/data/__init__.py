"""The reading side: references in, calibrated frames out, from any process and any PC.

Needs no acquisition code and no RunEngine. `Data.wait` tells the truth about where a reference
is; `Data.open` gives the frame; `Data.catalog` is the plain Tiled client.
"""

from ._data import Data
from ._reference_status import ReferenceStatus
from ._results import Results
from ._stored_frame import StoredFrame
from .follow import End, Point, RunFollower, RunsFollower

__all__ = [
    "Data", "ReferenceStatus", "StoredFrame", "Point", "End", "RunFollower", "RunsFollower",
    "Results",
]  # fmt: skip
