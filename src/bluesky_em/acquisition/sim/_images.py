"""Simulated scan images and camera images of the sample."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._beam import BeamState
from ._sample import Sample
from ._spectrum import ELEMENTARY_CHARGE

Floats = NDArray[np.floating[Any]]
Pixels = NDArray[np.uint16]

COUNTS_MAX = 65535
SCAN_DARK = 200.0  # counts
COUNTS_PER_SCAN_ELECTRON = 20.0
FILM_TO_HAADF = 0.012  # fraction of the beam that the bare film scatters onto the HAADF detector
CAMERA_DARK = 100.0  # counts
COUNTS_PER_CAMERA_ELECTRON = 2.0
WAVELENGTH = 2.508e-12  # m, 200 kV
CAMERA_WIDTH = 4096 * 14e-6  # m

_DISK = 1.0e9  # 1/m; radius of the central disk, nearly parallel illumination
_GOLD_RINGS = {4.25e9: 1.0, 4.90e9: 0.5, 6.93e9: 0.4, 8.13e9: 0.4}  # 1/m: weight
_OXIDE_SPACING = 2.56e9  # 1/m, SrTiO3 (100)


class _Amounts(NamedTuple):
    """t/lambda of each material under the beam."""

    carbon: float
    oxide: float
    gold: float


def scan_image(
    sample: Sample,
    state: BeamState,
    detector: str,
    *,
    size: int,
    dwell: float,
    region: tuple[float, float, float, float],
    rng: np.random.Generator,
) -> Pixels:
    """Return the counts of a scan detector, (rows, cols); `size` pixels span the whole scan.

    Region is left, top, width, height in fractions of the scan; dwell in s per pixel.
    """
    left, top, width, height = region
    cols, rows = max(1, round(width * size)), max(1, round(height * size))
    u = left + (np.arange(cols) + 0.5) / size
    v = top + (np.arange(rows) + 0.5) / size
    x, y = state.on_sample(u[np.newaxis, :], v[:, np.newaxis])
    counts = scan_signal(sample, state, x, y, detector=detector, dwell=dwell, rng=rng)
    return np.clip(counts, 0, COUNTS_MAX).astype(np.uint16)


def scan_signal(
    sample: Sample, state: BeamState, x: Floats, y: Floats, *, detector: str, dwell: float,
    rng: np.random.Generator,
) -> Floats:  # fmt: skip
    """Return the counts of a scan detector at points x, y (m) in `dwell` s each."""
    electrons = np.zeros(np.broadcast_shapes(x.shape, np.shape(y)))
    if state.on:
        seen = _share(sample, x, y, bright_field=detector.startswith("BF"))
        electrons = rng.poisson(seen * (state.current * dwell / ELEMENTARY_CHARGE))
    return electrons * COUNTS_PER_SCAN_ELECTRON + rng.normal(SCAN_DARK, 8.0, electrons.shape)


def _share(sample: Sample, x: Floats, y: Floats, *, bright_field: bool) -> Floats:
    """Return the fraction of the beam that reaches the detector."""
    dark = np.minimum(FILM_TO_HAADF * sample.haadf(x, y), 1.0)
    return (1.0 - dark) * np.exp(-0.5 * sample.thickness(x, y)) if bright_field else dark


def diffraction_pixel_size(camera_length: float, size: int) -> float:
    """Return the width of a camera pixel in 1/m; camera length in m, size in pixels."""
    return CAMERA_WIDTH / size / (WAVELENGTH * camera_length)


def camera_image(
    sample: Sample,
    state: BeamState,
    *,
    size: int,
    exposure: float,
    rng: np.random.Generator,
) -> Pixels:
    """Return the diffraction pattern (size, size) under the beam; exposure in s."""
    counts = rng.standard_normal((size, size), dtype=np.float32)
    if state.on:
        matter = sample.matter(*state.on_sample(state.x, state.y))
        amounts = _Amounts(*(round(float(t), 3) for t in matter))
        electrons = state.current * exposure / ELEMENTARY_CHARGE
        expected = _pattern(amounts, state.camera_length, size) * np.float32(electrons)
        counts *= np.sqrt(expected + 1)  # Poisson statistics, as good as Gaussian on a camera
        counts += expected
    counts *= COUNTS_PER_CAMERA_ELECTRON
    counts += CAMERA_DARK
    return np.clip(counts, 0, COUNTS_MAX).astype(np.uint16)


@lru_cache(maxsize=4)
def _pattern(amounts: _Amounts, camera_length: float, size: int) -> Floats:
    """Return the share of the electrons in each pixel: disk, halo and rings, and spots."""
    pixel = diffraction_pixel_size(camera_length, size)
    radius = _radius(size)
    k = np.arange(int(radius.max()) + 1) * pixel
    pattern = _radial_profile(amounts, k)[radius]
    if amounts.oxide > 0:
        _add_spots(pattern, 0.05 * amounts.oxide, pixel)
    return (pattern / pattern.sum()).astype(np.float32)


@lru_cache(maxsize=4)
def _radius(size: int) -> NDArray[np.uint16]:
    """Return each pixel's distance from the centre in whole pixels."""
    offset = (np.arange(size, dtype=np.float32) - (size - 1) / 2) ** 2
    return np.sqrt(offset[:, np.newaxis] + offset).astype(np.uint16)


def _radial_profile(amounts: _Amounts, k: Floats) -> Floats:
    """Return the round part of the pattern at spatial frequencies k (1/m)."""
    profile = 0.5 - 0.5 * np.tanh((k - _DISK) / (0.1 * _DISK))
    profile += 0.01 * sum(amounts) * np.exp(-k / 5e9)
    profile += 0.02 * amounts.carbon * np.exp(-0.5 * ((k - 4.8e9) / 0.8e9) ** 2)
    for ring, weight in _GOLD_RINGS.items():
        line = np.exp(-0.5 * ((k - ring) / 0.15e9) ** 2)
        profile += 0.05 * amounts.gold * weight * line
    return profile.astype(np.float32)


def _add_spots(pattern: Floats, weight: float, pixel: float) -> None:
    """Add the oxide's reflections to a pattern, disks on a square lattice turned by 20 degrees."""
    size = len(pattern)
    reach = max(1, round(_DISK / pixel / 2))
    u, v = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    disk = (u**2 + v**2 <= reach**2).astype(np.float32)
    cos, sin = np.cos(np.radians(20)), np.sin(np.radians(20))
    for h in range(-4, 5):
        for j in range(-4, 5):
            if h == j == 0:
                continue
            row = round(size / 2 + (h * sin + j * cos) * _OXIDE_SPACING / pixel)
            col = round(size / 2 + (h * cos - j * sin) * _OXIDE_SPACING / pixel)
            if reach <= row < size - reach and reach <= col < size - reach:
                strength = weight * float(np.exp(-(h * h + j * j) / 6))
                window = np.s_[row - reach : row + reach + 1, col - reach : col + reach + 1]
                pattern[window] += strength * disk
