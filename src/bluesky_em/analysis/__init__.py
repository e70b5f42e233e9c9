"""What plans, figures and on-line processing compute from spectra and images.

Pure functions, numpy in and out, one way to call them: frames first, `(..., energy)` or
`(..., y, x)` with any leading dimensions or none; then, where needed, `energy`, the axis in eV,
shape `(energy,)`; then parameters. A frame's result depends on that frame alone, so frames may
come one by one, in batches or as a whole map. What is not known is NaN.

Why so little of it is exspy or HyperSpy (GPL-3; `pip install "bluesky-em[analysis]"`): only
`absolute_thickness` needs them. Their alignment of zero-loss peaks, elastic threshold and power law
take decisions over all spectra at once, so that a spectrum's result would depend on its batch; the
tests hold ours against theirs.
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
