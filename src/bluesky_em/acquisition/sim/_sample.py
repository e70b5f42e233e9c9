"""The simulated specimen: gold nanoparticles and oxide flakes on a thin carbon film."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.floating[Any]]
MATERIALS = ("carbon", "oxide", "gold")

MEAN_FREE_PATH = {"carbon": 150e-9, "oxide": 110e-9, "gold": 85e-9}  # m, inelastic, 200 kV
ATOMS_PER_M3 = {"carbon": 1.0e29, "oxide": 8.4e28, "gold": 5.9e28}
MEAN_Z_POWER = {  # <Z^1.7> over the atoms of the formula unit: C, SrTiO3, Au
    "carbon": 6**1.7,
    "oxide": (38**1.7 + 22**1.7 + 3 * 8**1.7) / 5,
    "gold": 79**1.7,
}
COMPOSITION = {
    "carbon": {"C": 1.0},
    "oxide": {"Sr": 0.2, "Ti": 0.2, "O": 0.6},
    "gold": {"Au": 1.0},
}

_CELLS = 64  # the pattern repeats after this number of cells
_GOLD_CELL = 30e-9  # m; at most one particle in each
_FLAKE_CELL = 400e-9  # m; at most one flake in each


class Matter(NamedTuple):
    """The amount of each material in the beam, as thickness over mean free path."""

    carbon: Floats
    oxide: Floats
    gold: Floats

    @property
    def total(self) -> Floats:
        """Thickness over mean free path of everything, t/lambda."""
        return self.carbon + self.oxide + self.gold


@dataclass(frozen=True)
class Sample:
    """One specimen, the same for the same seed, unlimited in x and y.

    Each point is computed from the pattern's formulas, so a magnified view stays sharp and a pixel
    of a large image takes as long as a single spectrum.
    """

    seed: int = 7
    """Determines the positions of particles and flakes."""
    film: float = 20e-9
    """Thickness of the carbon film in m."""

    def matter(self, x: ArrayLike, y: ArrayLike) -> Matter:
        """Return t/lambda of each material at x, y (m, broadcast together)."""
        x, y = np.asarray(x, float), np.asarray(y, float)
        return Matter(
            carbon=np.full(
                np.broadcast_shapes(x.shape, y.shape), self.film / MEAN_FREE_PATH["carbon"]
            ),
            oxide=self._flake_thickness(x, y) / MEAN_FREE_PATH["oxide"],
            gold=self._gold_thickness(x, y) / MEAN_FREE_PATH["gold"],
        )

    def thickness(self, x: ArrayLike, y: ArrayLike) -> Floats:
        """Return the total t/lambda at x, y (m)."""
        return self.matter(x, y).total

    def composition(self, x: float, y: float) -> dict[str, float]:
        """Return the atomic fraction of each element under a point x, y (m)."""
        atoms: dict[str, float] = {}
        for material, t in zip(MATERIALS, self.matter(x, y), strict=True):
            areal = float(t) * MEAN_FREE_PATH[material] * ATOMS_PER_M3[material]
            for element, fraction in COMPOSITION[material].items():
                atoms[element] = atoms.get(element, 0.0) + areal * fraction
        total = sum(atoms.values())
        return {element: n / total for element, n in atoms.items() if n > 0}

    def haadf(self, x: ArrayLike, y: ArrayLike) -> Floats:
        """Return the high-angle scattering at x, y (m), ~ Z^1.7 x atoms; the bare film is 1."""
        matter = self.matter(x, y)
        weight = {m: MEAN_Z_POWER[m] * ATOMS_PER_M3[m] * MEAN_FREE_PATH[m] for m in MATERIALS}
        film = weight["carbon"] * self.film / MEAN_FREE_PATH["carbon"]
        signal = np.zeros(matter.carbon.shape)
        for material, t in zip(MATERIALS, matter, strict=True):
            signal += t * (weight[material] / film)
        return signal

    @cached_property
    def _particles(self) -> tuple[Floats, Floats, Floats]:
        """Offset x, y in the cell and radius (m) of each cell's particle, 0 for none."""
        rng = np.random.default_rng([self.seed, 1])
        shape = (_CELLS, _CELLS)
        radius = rng.uniform(3e-9, 8e-9, shape) * (rng.random(shape) < 0.45)
        room = _GOLD_CELL / 2 - radius
        dx, dy = rng.uniform(-1, 1, (2, *shape)) * room
        radius[0, 0] = 0.0  # the middle of the view shows the flake, not a particle on it
        return dx, dy, radius

    @cached_property
    def _flakes(self) -> tuple[Floats, ...]:
        """Offset x, y (m), half width (m), cosine and sine of turn, plateau (m) of each flake."""
        rng = np.random.default_rng([self.seed, 2])
        shape = (_CELLS, _CELLS)
        width = rng.uniform(40e-9, 90e-9, shape) * (rng.random(shape) < 0.7)
        room = _FLAKE_CELL / 2 - 1.5 * width
        dx, dy = rng.uniform(-1, 1, (2, *shape)) * room
        angle = rng.uniform(0, np.pi / 2, shape)
        cos, sin = np.cos(angle), np.sin(angle)
        plateau = rng.uniform(20e-9, 60e-9, shape)
        # The first view, centred on 0, shows a flake in its middle and bare film beside it.
        dx[0, 0], dy[0, 0], width[0, 0], plateau[0, 0] = -30e-9, 12e-9, 52e-9, 45e-9
        return dx, dy, width, cos, sin, plateau

    def _gold_thickness(self, x: Floats, y: Floats) -> Floats:
        row, col, u, v = _in_cell(x, y, _GOLD_CELL)
        dx, dy, radius = (table[row, col] for table in self._particles)
        return 2 * np.sqrt(np.maximum(radius**2 - (u - dx) ** 2 - (v - dy) ** 2, 0.0))

    def _flake_thickness(self, x: Floats, y: Floats) -> Floats:
        row, col, u, v = _in_cell(x, y, _FLAKE_CELL)
        dx, dy, width, cos, sin, plateau = (table[row, col] for table in self._flakes)
        u, v = u - dx, v - dy
        side = np.maximum(np.abs(u * cos + v * sin), np.abs(v * cos - u * sin))
        corner = (np.abs(u) + np.abs(v)) / 1.25
        ramp = 12e-9  # m; the wedge at the rim
        return plateau * np.clip((width - np.maximum(side, corner)) / ramp, 0.0, 1.0)


def _in_cell(x: Floats, y: Floats, cell: float) -> tuple[NDArray, NDArray, Floats, Floats]:
    """Return row and column of the cell around x, y and the position (m) from its middle."""
    i, j = np.rint(x / cell), np.rint(y / cell)
    row, col = j.astype(np.int64) % _CELLS, i.astype(np.int64) % _CELLS
    return row, col, x - i * cell, y - j * cell
