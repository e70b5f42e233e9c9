"""Update modes: a stream's updates become one array, in one file, readable while it grows.

A stream declares once how (`UpdateDeclaration`, in its stream resource's parameters): its updates
are written where their index says (`add_slice`), each takes the place of the one before
(`replace`), or they are added up (`accumulate`). `/entry/data/data` is the array that
anything can read; `/entry/updates` tells of each update its number, time, checksum and place.

After a kill at any moment, opening the file again shows every flushed update exactly once, and
an update that is applied again changes nothing: whoever writes applies again what it cannot be
sure of. An update that does not fit is refused with a `FrameMismatch` and never cut or dropped.

BEC's mode `add` needs no declaration: frames without one are rows of the array in a `FramesFile`.

Why not BEC's modes as they are: the names are BEC's (`add_slice`, `replace`; `shape` is its
`max_shape`), and what BEC documents is done likewise where it loses nothing. But BEC

- cuts long rows in `add_slice`, and drops an N-D value that is too large, with a warning: here they
  are refused.
- takes only 1-D slices of 2-D arrays in `add_slice`, each behind the one before in its row, and
  gives the array its last row's length, so that going back a row loses the later ones: here any
  index on any axis. Its row `i` is our `(i, -1)`, its row -1 our `(-1, 0)`, without the empty
  row that it leaves.
- keeps the last value of `replace` in memory until the scan ends: here each is flushed at once.
"""

from bluesky_em.update_modes import UpdateDeclaration, UpdateMode

from ._extent import Extent
from ._file import UpdateFile, open_updates
from ._reader import UpdateReader
from ._update import Held, Update

__all__ = [
    "UpdateDeclaration", "UpdateMode", "Update", "UpdateFile", "open_updates", "Held",
    "UpdateReader", "Extent",
]  # fmt: skip
