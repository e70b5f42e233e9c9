"""What plans and figures compute from spectra and images. Pure functions, numpy in and out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Region = tuple[float, float, float, float]
"""Left, top, width, height as fractions of a scan."""

FIT_FROM = 60.0  # eV below an edge, where the fit of its background begins
FIT_TO = 6.0  # eV below an edge, where it ends


def elemental_map(
    spectra: NDArray, energy: Floats, onset: float, width: float = 40.0
) -> NDArray[np.float64]:
    """Integrate an edge above its background, a power law A E^-r fitted before it.

    The standard quantification (R. F. Egerton, EELS in the Electron Microscope, 3rd ed., 4.4):
    a least-squares line through log counts over log energy.

    Args:
        spectra: counts, shape `(..., energy)`.
        energy: of each channel, in eV, shape `(energy,)`.
        onset: of the edge, in eV.
        width: that is integrated from the onset on, in eV.

    Returns:
        Counts in the edge, shape `(...)`.

    Raises:
        ValueError: the spectra do not reach from 60 eV below the onset to its end.
    """
    if energy[0] > onset - FIT_FROM or energy[-1] < onset + width:
        raise ValueError(
            f"an edge at {onset:g} eV needs spectra from {onset - FIT_FROM:g} to "
            f"{onset + width:g} eV; these go from {energy[0]:g} to {energy[-1]:g} eV"
        )
    before = (energy >= onset - FIT_FROM) & (energy <= onset - FIT_TO)
    inside = (energy >= onset) & (energy <= onset + width)
    log_energy = np.log(energy[before])
    log_counts = np.log(np.maximum(spectra[..., before], 1.0))
    centred = log_energy - log_energy.mean()
    slope = (log_counts * centred).sum(axis=-1) / (centred**2).sum()
    level = log_counts.mean(axis=-1) - slope * log_energy.mean()
    background = np.exp(level[..., None] + slope[..., None] * np.log(energy[inside]))
    return (spectra[..., inside] - background).sum(axis=-1, dtype=np.float64)


def merge(spectra: Sequence[tuple[Floats, NDArray, float]]) -> tuple[Floats, Floats]:
    """Merge spectra of several energy offsets into one.

    Args:
        spectra: of each its energies in eV, ascending, its counts, and its exposure in s.

    Returns:
        Energies from the lowest to the highest, in steps of the finest of them, and counts per
        second; where several spectra overlap, all their counts over all their time; NaN where
        there is none.

    Raises:
        ValueError: there is no spectrum.
    """
    if not spectra:
        raise ValueError("there is no spectrum to merge")
    step = min(float(energy[1] - energy[0]) for energy, _, _ in spectra)
    low = min(float(energy[0]) for energy, _, _ in spectra)
    high = max(float(energy[-1]) for energy, _, _ in spectra)
    grid = low + step * np.arange(round((high - low) / step) + 1)
    counts, seconds = np.zeros(len(grid)), np.zeros(len(grid))
    for energy, values, exposure in spectra:
        per_step = step / float(energy[1] - energy[0])
        here = (grid >= energy[0] - step / 2) & (grid <= energy[-1] + step / 2)
        counts[here] += per_step * np.interp(grid[here], energy, values)
        seconds[here] += exposure
    with np.errstate(invalid="ignore"):
        return grid, counts / seconds


def shift(reference: NDArray, image: NDArray) -> tuple[float, float]:
    """Find how far an image has moved, by cross-correlation.

    Args:
        reference: shape `(rows, cols)`.
        image: the same later, same shape.

    Returns:
        Rows and columns by which what is in `reference` has moved in `image`; to a fraction of a
        pixel, and up to half of the image.

    Raises:
        ValueError: the shapes differ.
    """
    if reference.shape != image.shape:
        raise ValueError(f"images of shapes {reference.shape} and {image.shape} do not compare")
    window = np.outer(*(np.hanning(size) for size in reference.shape))
    one, other = ((each - each.mean()) * window for each in (reference, image))
    product = np.fft.rfft2(other) * np.conj(np.fft.rfft2(one))
    correlation = np.fft.irfft2(product, reference.shape)
    peak = np.unravel_index(np.argmax(correlation), correlation.shape)
    moved = [_refined(correlation, peak, axis) for axis in (0, 1)]
    return moved[0], moved[1]


def brightest_tiles(image: NDArray, regions: int = 2, tiles: int = 4) -> list[Region]:
    """Divide an image into `tiles` x `tiles` and choose those that are brightest on average.

    Returns:
        Of each its left, top, width, height in fractions of the image, the brightest first.
    """
    rows, cols = (size // tiles * tiles for size in image.shape)
    parts = image[:rows, :cols].reshape(tiles, rows // tiles, tiles, cols // tiles)
    order = np.argsort(parts.mean(axis=(1, 3)).ravel())[::-1][:regions]
    side = 1 / tiles
    return [(int(n) % tiles * side, int(n) // tiles * side, side, side) for n in order]


def _refined(correlation: Floats, peak: tuple[np.intp, ...], axis: int) -> float:
    """Give the place of a peak along an axis, by a parabola through it and its neighbours."""
    size = correlation.shape[axis]
    along = np.take(correlation, peak[1 - axis], axis=1 - axis)
    left, middle, right = (along[(int(peak[axis]) + n) % size] for n in (-1, 0, 1))
    curvature = left - 2 * middle + right
    place = float(peak[axis]) + (0.5 * float(left - right) / float(curvature) if curvature else 0)
    return place - size if place > size / 2 else place
