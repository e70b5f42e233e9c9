"""Update modes: a stream's updates become one array, in one file, readable while it grows.

A stream declares its mode once (`UpdateDeclaration`, in the parameters of its stream resource).
Updates are written at their index (`add_slice`), each replaces the one before it (`replace`), or
they are added up (`accumulate`). `/entry/data/data` is the array, readable by anything;
`/entry/updates` has the number, time, checksum and place of each update.

After a kill at any moment, opening the file again shows every flushed update exactly once.
Applying an update again changes nothing, so a writer applies again every update that may not be on
the disk. An update that does not fit is refused with a `FrameMismatch`, and never cut or dropped.

Mode `add` of BEC needs no declaration: frames without one are rows of the array in a `FramesFile`.

Why the modes differ from BEC's: the names are BEC's (`add_slice`, `replace`; `shape` is its
`max_shape`), and the documented behaviour is the same wherever no data are lost. But BEC

- cuts long rows in `add_slice`, and drops an N-D value that is too large, with a warning: here both
  are refused.
- accepts only 1-D slices of 2-D arrays in `add_slice`, each behind the previous one in its row, and
  gives the array the length of its last row, so that returning to an earlier row loses the later
  ones: here any index on any axis is allowed. BEC's row `i` is `(i, -1)` here, its row -1 is
  `(-1, 0)`, without the empty row that BEC leaves.
- keeps the last value of `replace` in memory until the scan ends: here each value is flushed at
  once.
"""

from bluesky_em.update_modes import UpdateDeclaration, UpdateMode

from ._extent import Extent
from ._file import open_updates
from ._mode_file import UpdateFile
from ._reader import UpdateReader
from ._update import Held, Update

__all__ = [
    "UpdateDeclaration", "UpdateMode", "Update", "UpdateFile", "open_updates", "Held",
    "UpdateReader", "Extent",
]  # fmt: skip
