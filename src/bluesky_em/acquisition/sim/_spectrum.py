"""Counts of an energy-loss spectrometer's camera: the physics first, then the detector."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._sample import MATERIALS, Matter, Sample

Floats = NDArray[np.floating[Any]]

CHANNELS = 2048
ZERO_LOSS_CHANNEL = 200
SENSOR_ROWS = 2048
ELEMENTARY_CHARGE = 1.602176634e-19  # C
COUNTS_PER_ELECTRON = 7.8  # brightness scale 0.1285 e-/count in real files
ADC_MAX = 65535.0  # counts in one row
READ_NOISE = 12.0  # counts rms in each read-out row, binned or not
ZERO_LOSS_FWHM = 1.0  # eV
SPECTRUM_HEIGHT = 60.0  # sensor rows, standard deviation across the energy direction

_STEP = 0.5  # eV; grid on which losses are computed (all inelastic features are wider)
_START = -64.0  # eV
_POINTS = 8192  # reaches 4032 eV, beyond the highest edge below


class Plasmon(NamedTuple):
    """A Drude volume plasmon: position and width in eV."""

    energy: float
    width: float


class Edge(NamedTuple):
    """An ionisation edge of one material."""

    onset: float
    """eV, exspy's table of binding energies."""
    weight: float
    """Ionisations per inelastic scattering event."""
    white_line: float = 0.0
    """Height of the line at the onset over the edge's own jump."""
    rise: float = 2.0
    """Width of the onset in eV."""


PLASMONS = {
    "carbon": Plasmon(24.0, 16.0),
    "oxide": Plasmon(30.0, 14.0),
    "gold": Plasmon(26.0, 20.0),
}
EDGES = {
    "carbon": [Edge(284.0, 4.0e-3, white_line=1.2)],
    "oxide": [
        Edge(456.0, 1.8e-3, white_line=3.0, rise=0.8),  # Ti-L3
        Edge(462.0, 0.9e-3, white_line=3.0, rise=0.8),  # Ti-L2
        Edge(532.0, 2.5e-3, white_line=1.0),  # O-K
        Edge(1940.0, 2.0e-4, white_line=2.0),  # Sr-L3
    ],
    "gold": [Edge(83.0, 3.0e-2, rise=15.0), Edge(2206.0, 1.0e-4, rise=20.0)],  # N67, M5
}


def loss_grid() -> Floats:
    """Return the energies (eV) on which losses are computed."""
    return _START + _STEP * np.arange(_POINTS)


def single_scattering(material: str) -> Floats:
    """Return the loss distribution of one inelastic event, in 1/eV on `loss_grid`.

    A Drude plasmon, whose tail falls as E^-3 and so is the A E^-r background under the edges.
    """
    energy = np.maximum(loss_grid(), 0.0)
    position, width = PLASMONS[material]
    drude = energy * width * position**2
    drude /= (energy**2 - position**2) ** 2 + (energy * width) ** 2
    drude /= drude.sum() * _STEP
    for edge in EDGES[material]:
        drude += _edge(energy, edge)
    return drude


def _edge(energy: Floats, edge: Edge) -> Floats:
    """Return one edge, a rounded step times a power law E^-3, in 1/eV."""
    step = 0.5 * (1 + np.tanh((energy - edge.onset) / edge.rise))
    tail = (edge.onset / np.maximum(energy, edge.onset / 2)) ** 3
    line = edge.white_line * np.exp(-0.5 * ((energy - edge.onset - 2.0) / 1.2) ** 2)
    return edge.weight * 2 / edge.onset * (step * tail + line)


def zero_loss(energy: Floats, width: float) -> Floats:
    """Return the zero-loss peak (1/eV, area 1), widened by channels of `width` eV."""
    sigma = math.hypot(ZERO_LOSS_FWHM / 2.3548, width / 3.4641)
    return np.exp(-0.5 * (energy / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))


@cache
def _scattering_transforms() -> NDArray[np.complex128]:
    """Return each material's single-scattering transform minus 1, shape (3, frequencies)."""
    losses = [np.roll(single_scattering(m), int(_START / _STEP)) for m in MATERIALS]
    return np.fft.rfft(np.asarray(losses) * _STEP, axis=1) - 1.0


class LossModel:
    """Expected energy-loss distributions, with plural scattering.

    The number of inelastic events is Poisson with mean t/lambda, each with its material's single
    scattering distribution: in Fourier space the whole series is one exponential. The zero-loss
    peak is kept apart and put on the detector's own channels, because it is sharper than the grid.
    """

    _CACHE_LIMIT = 64  # beam positions

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[float, float, float], Floats] = OrderedDict()
        self._grid = loss_grid()
        peak = zero_loss(self._grid, _STEP)
        self._peak = np.fft.rfft(np.roll(peak, int(_START / _STEP)) / peak.sum())

    def per_electron(self, matter: Matter, start: float, dispersion: float) -> Floats:
        """Return the share of electrons in each of the channels from `start` eV on."""
        energy = start + dispersion * np.arange(CHANNELS)
        amounts = (float(matter.carbon), float(matter.oxide), float(matter.gold))
        spectrum = np.interp(energy, self._grid, self._inelastic(amounts), left=0.0, right=0.0)
        spectrum += math.exp(-sum(amounts)) * zero_loss(energy, dispersion)
        return spectrum * dispersion

    def _inelastic(self, amounts: tuple[float, float, float]) -> Floats:
        """Return everything but the zero loss, in 1/eV on the grid."""
        if amounts not in self._known:
            series = np.exp(np.asarray(amounts) @ _scattering_transforms())
            series -= math.exp(-sum(amounts))
            losses = np.fft.irfft(self._peak * series, _POINTS) / _STEP
            self._known[amounts] = np.maximum(np.roll(losses, -int(_START / _STEP)), 0.0)
            while len(self._known) > self._CACHE_LIMIT:
                self._known.popitem(last=False)
        return self._known[amounts]


@dataclass(frozen=True)
class EnergyDrift:
    """A slow seeded drift of the energy scale: a pure function of time, 0 at the beginning."""

    seed: int
    rate: float = 0.1
    """eV per minute, typical."""

    def at(self, seconds: float) -> float:
        """Return the drift in eV after this number of seconds."""
        rng = np.random.default_rng([self.seed, 3])
        periods = rng.uniform(120.0, 1800.0, 5)  # s
        phases = rng.uniform(0.0, 2 * np.pi, 5)
        amplitude = self.rate / 60.0 * periods / (2 * np.pi) / math.sqrt(5)
        waves = np.sin(2 * np.pi * seconds / periods + phases) - np.sin(phases)
        return float(np.sum(amplitude * waves))


class Counts(NamedTuple):
    """One read-out of the camera."""

    image: NDArray[np.float32]
    """(rows, channels)"""
    saturation_fraction: float
    """Fraction of the pixels at the converter's limit."""


@dataclass
class EelsCamera:
    """The spectrometer's camera, from electrons to counts."""

    seed: int
    sample: Sample
    model: LossModel = field(default_factory=LossModel)

    def __post_init__(self) -> None:
        rng = np.random.default_rng([self.seed, 4])
        ripple = np.sin(np.arange(CHANNELS) / 37.0)
        self._dark = 740.0 + 12.0 * ripple + rng.normal(0, 4.0, CHANNELS)  # counts per row read
        self._gain = 1.0 + rng.normal(0, 0.01, CHANNELS)
        self._rng = np.random.default_rng([self.seed, 5])

    def expected(self, matter: Matter, electrons: float, start: float, dispersion: float) -> Floats:
        """Return the electrons expected in each channel."""
        return electrons * self.model.per_electron(matter, start, dispersion)

    def read(self, expected: Floats | None, top: int, bottom: int, y_bin: int, mode: int) -> Counts:
        """Return the counts of sensor rows top to bottom, `y_bin` of them added on the chip.

        `expected` is in electrons per channel over the whole height, None without electrons.
        Mode is the vendor's: 1 as read, 2 dark subtracted, 3 gain normalised too.
        """
        shares = _row_shares(top, bottom, y_bin)
        counts = self._rng.standard_normal((len(shares), CHANNELS))
        counts *= READ_NOISE
        if expected is not None:
            electrons = self._rng.poisson(np.outer(shares, expected))
            counts += electrons * (COUNTS_PER_ELECTRON * self._gain)
        counts += self._dark
        limit = ADC_MAX * y_bin
        saturated = float(np.mean(counts >= limit))
        np.clip(counts, 0.0, limit, out=counts)
        if mode >= 2:
            counts -= self._dark
        if mode >= 3:
            counts /= self._gain
        return Counts(counts.astype(np.float32), saturated)


@cache
def _row_shares(top: int, bottom: int, y_bin: int) -> Floats:
    """Return the fraction of the spectrum that falls on each binned row."""
    edges = np.arange(top, bottom + 1, y_bin) - SENSOR_ROWS / 2
    below = [0.5 * (1 + math.erf(edge / (SPECTRUM_HEIGHT * math.sqrt(2)))) for edge in edges]
    return np.diff(below)
