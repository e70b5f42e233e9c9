"""A frame as the documents tell of it: what it is, where it waits, where it will be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .axes import Axis


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One acquisition's array and its place. Known from documents alone, before any pixel."""

    reference: str
    run: str
    """Uid of the run whose event holds the reference."""
    stream: str
    """Name of that event's stream, e.g. `primary`."""
    detector: str
    """The data key, which is the detector's name."""
    number: int
    """Count of the detector's exposures in its run, from 0."""
    row: int
    """Index in the file's dataset and in Tiled: the count of that stream's events, from 0."""
    server: str
    """Address of the acquisition server whose spool holds it."""
    path: str
    """Its file, relative to the storage folder, with `/`."""
    shape: tuple[int, ...]
    """e.g. `(2048,)` or `(rows, cols)`"""
    dtype: str
    """numpy string, e.g. `<f4`"""
    checksum: int
    """CRC-32 of its bytes in C order."""
    axes: tuple[Axis, ...]
    """One per dimension."""
    ended: float
    """End of the exposure, s since the epoch, by the instrument PC's clock."""
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    """What the driver says of the exposure, e.g. `saturation_fraction`."""
    count: int = 1
    """How many consecutive frames it stands for, in rows `row` to `row + count - 1`."""
    scan: tuple[Axis, ...] = ()
    """Axes `(y, x)` of the map over which its pass's frames run, in C order; empty for no map."""
