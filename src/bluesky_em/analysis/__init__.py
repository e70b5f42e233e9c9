"""What plans, figures and on-line processing compute from spectra and images.

Pure functions, numpy in and out, one way to call them: frames first, `(..., energy)` or
`(..., y, x)` with any leading dimensions or none; then, where needed, `energy`, the axis in eV,
shape `(energy,)`; then parameters. A frame's result depends on that frame alone, so frames may
come one by one, in batches or as a whole map. What is not known is NaN.
"""

from ._dark import subtract_dark
from ._drift import shift
from ._edges import background, elemental_map, remove_background
from ._energy_series import merge
from ._tiles import Region, brightest_tiles

__all__ = [
    "subtract_dark",
    "background",
    "remove_background",
    "elemental_map",
    "merge",
    "shift",
    "brightest_tiles",
    "Region",
]
