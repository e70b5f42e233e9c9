"""A frame as its documents describe it: what it is, where it is, where it will be stored."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

from numpy import dtype

from .axes import Axis


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Description of one acquisition's array, known from documents alone.

    In a fly scan it describes a *block*: `count` frames with consecutive numbers and rows, which
    share one entry of the spool and one checksum.
    """

    reference: str
    """Of a block, the reference of its first frame."""
    run: str
    """Uid of the run whose event holds the reference."""
    stream: str
    """Name of that event's stream, e.g. `primary`."""
    detector: str
    """Name of the detector, which is the data key."""
    number: int
    """Count of the detector's exposures in its run, from 0."""
    row: int
    """Index in the file's dataset and in Tiled: counts the stream's events from 0."""
    server: str
    """Address of the acquisition server in whose spool it is."""
    path: str
    """Its file, relative to the storage folder, separated by `/`."""
    shape: tuple[int, ...]
    """e.g. `(2048,)` or `(rows, cols)`"""
    dtype: str
    """numpy string, e.g. `<f4`"""
    checksum: int
    """CRC-32 of its bytes in C order; of a block, 0 until it is stored."""
    axes: tuple[Axis, ...]
    """One per dimension."""
    ended: float
    """End of the exposure, s since the epoch, by the instrument PC's clock; of a block, 0 until it
    is stored."""
    count: int = 1
    """Number of frames."""
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    """The driver's values about the exposure, e.g. `saturation_fraction`."""
    update: dict[str, Any] | None = None
    """How the frames of its stream update one array, an `UpdateDeclaration.dump()`; the row is then
    the number of the update. None: each frame is a row of the array."""
    index: tuple[int, ...] | None = None
    """Index of its first element in that array, for mode `add_slice`; None until it is stored."""

    @property
    def flown(self) -> bool:
        """Whether its documents lack checksum and time, as in a fly scan."""
        return self.ended == 0

    @property
    def owner(self) -> str:
        """The owner of its file, `<run>/<stream>/<detector>`."""
        return f"{self.run}/{self.stream}/{self.detector}"

    @property
    def references(self) -> list[str]:
        """The references of all its frames."""
        base = self.reference.rpartition("/")[0]
        return [f"{base}/{self.number + n}" for n in range(self.count)]

    @property
    def numbers(self) -> range:
        """The numbers of all its frames."""
        return range(self.number, self.number + self.count)

    @property
    def rows(self) -> range:
        """The rows of all its frames."""
        return range(self.row, self.row + self.count)

    @property
    def nbytes(self) -> int:
        """Size of all its pixels, bytes."""
        return self.count * prod(self.shape) * dtype(self.dtype).itemsize

    @property
    def scan(self) -> tuple[Axis, ...]:
        """The axes (y, x) of the map whose points the numbers count in C order; empty if none."""
        return tuple(Axis.load(axis) for axis in self.metadata.get("scan", ()))

    @property
    def pass_rows(self) -> range | None:
        """The rows of its pass over a map, also of points not taken; None: rows are no points.

        The dataset has shape `(lines, points, *frame)`, and rows count its points.
        """
        about = self.metadata.get("pass")
        return None if about is None else range(about["row"], about["row"] + about["rows"])

    @property
    def end_row(self) -> int:
        """Number of rows that its dataset has at least."""
        return self.rows.stop if self.pass_rows is None else self.pass_rows.stop

    @property
    def points(self) -> int:
        """Number of points of each line of the dataset; 0 if its rows are no points of a map."""
        return 0 if self.pass_rows is None else self.scan[1].size

    def part(self, first: int, stop: int) -> Frame:
        """Return the part with the frame numbers `first` to `stop - 1`."""
        first, stop = max(first, self.number), min(stop, self.number + self.count)
        if (first, stop) == (self.number, self.number + self.count):
            return self
        base = self.reference.rpartition("/")[0]
        return replace(
            self, reference=f"{base}/{first}", number=first, count=stop - first,
            row=self.row + first - self.number,
        )  # fmt: skip
