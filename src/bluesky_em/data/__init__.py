"""Reading: from references to calibrated frames, in any process and on any PC.

Needs no acquisition code and no RunEngine. `Data.wait` waits until a reference can be read, or
raises with its state; `Data.open` opens the frame; `Data.catalog` is the plain Tiled client.
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
