"""Parts of an image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Region = tuple[float, float, float, float]
"""Left, top, width, height as fractions of a scan."""


def brightest_tiles(image: NDArray, regions: int = 2, tiles: int = 4) -> list[Region]:
    """Divide an image into `tiles` x `tiles` and return those that are brightest on average.

    Returns:
        Left, top, width and height of each, as fractions of the image, the brightest first.
    """
    rows, cols = (size // tiles * tiles for size in image.shape)
    parts = image[:rows, :cols].reshape(tiles, rows // tiles, tiles, cols // tiles)
    order = np.argsort(parts.mean(axis=(1, 3)).ravel())[::-1][:regions]
    side = 1 / tiles
    return [(int(n) % tiles * side, int(n) // tiles * side, side, side) for n in order]
