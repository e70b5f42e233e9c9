"""Functions on spectra and images, for plans, figures and online analysis.

Pure functions of NumPy arrays with one calling convention: first the frames, `(..., energy)` or
`(..., y, x)` with any leading dimensions or none; then, where needed, `energy`, the axis in eV,
shape `(energy,)`; then parameters. The result of a frame depends on that frame alone, so frames can
be passed one by one, in batches or as a whole map. Unknown values are NaN.

Only `absolute_thickness` needs exspy and HyperSpy (GPL-3; `pip install "bluesky-em[analysis]"`).
Their alignment of zero-loss peaks, elastic threshold and power law use all spectra at once, so the
result of a spectrum would depend on its batch; the tests compare our results with theirs.
"""

from ._dark import subtract_dark
from ._drift import shift
from ._edges import background, elemental_map, remove_background
from ._energy_series import merge
from ._thickness import absolute_thickness, thickness
from ._tiles import Region, brightest_tiles
from ._zero_loss import align_zero_loss, zero_loss

__all__ = [
    "subtract_dark",
    "zero_loss",
    "align_zero_loss",
    "thickness",
    "absolute_thickness",
    "background",
    "remove_background",
    "elemental_map",
    "merge",
    "shift",
    "brightest_tiles",
    "Region",
]
