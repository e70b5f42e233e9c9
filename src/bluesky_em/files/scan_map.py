"""Maps of the specimen that the rows of scanned frames form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bluesky_em.axes import Axis

Block = tuple[Sequence[Axis], int, int, int]
"""Consecutive rows of one scan: its axes `(y, x)`, the first row, the number of rows, and the
number of the first frame."""


@dataclass(frozen=True, kw_only=True)
class ScanPass:
    """One scan over its points, line by line, in consecutive rows."""

    y: Axis
    x: Axis
    row: int
    """its first row"""
    rows: int
    """the number of its rows: fewer than points where it ended early"""
    number: int
    """the number of its first frame"""

    @property
    def missing(self) -> int:
        """Number of points at its end that have no row."""
        return self.y.size * self.x.size - self.rows


@dataclass(frozen=True, kw_only=True)
class ScanMap:
    """Passes over the same columns `x`, one below the other along `y`.

    A pass ends when it is full, when frames of another scan follow, or when frame numbers are
    left out: a pass that ends early had reserved them.
    """

    passes: tuple[ScanPass, ...]

    @classmethod
    def of(cls, blocks: Iterable[Block]) -> ScanMap | None:
        """Return the map that rows form, or None if they form none.

        Args:
            blocks: all rows, in order.
        """
        found = passes(blocks)
        fitting = {(p.x, p.y.name, p.y.units) for p in found}
        return cls(passes=tuple(found)) if len(fitting) == 1 else None

    @property
    def shape(self) -> tuple[int, int]:
        """Number of lines and of columns."""
        return sum(p.y.size for p in self.passes), self.passes[0].x.size

    def axes(self, frame: Iterable[Axis]) -> list[tuple[str, np.ndarray, str]]:
        """Return name, values and units of y and x; names differ from those of the frame's axes."""
        taken = {axis.name for axis in frame}
        y, x = self.passes[0].y, self.passes[0].x
        lines = np.concatenate([p.y.values for p in self.passes])
        return [
            (f"scan_{axis.name}" if axis.name in taken else axis.name, values, axis.units)
            for axis, values in ((y, lines), (x, x.values))
        ]


def passes(blocks: Iterable[Block]) -> list[ScanPass]:
    """Return the passes that rows form; none if some rows belong to no scan.

    Args:
        blocks: all rows, in order.
    """
    found: list[ScanPass] = []
    for scan, row, rows, number in blocks:
        if len(scan) != 2:
            return []
        _append(found, ScanPass(y=scan[0], x=scan[1], row=row, rows=rows, number=number))
    return found


def _append(passes: list[ScanPass], more: ScanPass) -> None:
    """Add rows to the last pass if they continue it, or as new passes."""
    last = passes[-1] if passes else more
    follows = (last.y, last.x, last.number + last.rows) == (more.y, more.x, more.number)
    if passes and follows and last.missing:
        passes.pop()
        more = replace(last, rows=last.rows + more.rows)
    while more.rows > 0:
        full = min(more.rows, more.y.size * more.x.size)
        passes.append(replace(more, rows=full))
        more = replace(more, row=more.row + full, rows=more.rows - full, number=more.number + full)
