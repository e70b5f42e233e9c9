"""Streams of updates of every mode, and what a reader returns of them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bluesky_em.files.hdf5.updates import (
    Update,
    UpdateDeclaration,
    UpdateFile,
    UpdateReader,
    open_updates,
)

OWNER = "run/primary/haadf"
Index = tuple[int, ...] | None


@dataclass(frozen=True)
class Stream:
    declared: UpdateDeclaration
    updates: list[tuple[Update, np.ndarray]]

    def open(self, path: Path) -> UpdateFile:
        return open_updates(path, self.declared, OWNER)


def stream(declared: dict[str, Any], shapes: list[tuple[int, ...]], indices: list[Index]) -> Stream:
    rng = np.random.default_rng(1)
    updates = []
    for number, (shape, index) in enumerate(zip(shapes, indices, strict=True)):
        values = rng.integers(1, 100, shape).astype(declared["dtype"])
        updates.append((Update.of(number, values, time=1000.0 + number, index=index), values))
    return Stream(UpdateDeclaration.load(declared), updates)


def rows(shape: list[int | None], shapes: list[tuple[int, ...]]) -> Stream:
    """Return updates of `add_slice` one behind the other on axis 0, like the lines of a map."""
    starts = np.cumsum([0, *(s[0] if len(s) == len(shape) else 1 for s in shapes)])
    indices: list[Index] = [(int(start), *[0] * (len(shape) - 1)) for start in starts[:-1]]
    return stream({"mode": "add_slice", "shape": shape, "dtype": "<f4"}, shapes, indices)


STREAMS = {
    "add_slice-rows": rows([None, 8], [(8,)] * 8),
    "add_slice-frames": rows(
        [100, 5, 6], [(5, 6), (3, 5, 6), (1, 5, 6), (5, 6), (4, 5, 6), (70, 5, 6)]
    ),
    "add_slice-short-rows": rows([None, 9], [(9,), (4,), (2, 1), (0,), (7,), (9,)]),
    "add_slice-rows-behind": stream(
        {"mode": "add_slice", "shape": [None, 300], "dtype": "<u2"}, [(2, 300)] * 8, [None] * 8
    ),
    "add_slice": stream(
        {"mode": "add_slice", "shape": [6, 7, 40], "dtype": "<f4"},
        [(1, 1, 40), (2, 3, 10), (7, 40), (2, 2, 2), (6, 1, 1), (3, 3, 30), (1,), (2, 2)],
        [(5, 6, 0), (1, 1, 5), (2, 0, 0), (1, 2, 7), (0, 6, 39), (1, 1, 6), (1, 2, 8), (1, 2, 7)],
    ),
    "add_slice-grows": stream(
        {"mode": "add_slice", "shape": [4, None], "dtype": "<i4"},
        [(10,), (5,), (2, 30), (1200,), (3, 3), (7,)],
        [(0, 0), (3, 20), (1, 10), (2, 5), (1, 0), (2, 0)],
    ),
    "add_slice-behind": stream(
        {"mode": "add_slice", "shape": [None, None], "dtype": "<f4"},
        [(4,), (3,), (2,), (5,), (2, 2), (1,)],
        [(-1, 0), (0, -1), (-1, 0), (1, -1), (-1, -1), (0, 2)],
    ),
    "replace": stream(
        {"mode": "replace", "shape": [30, 40], "dtype": "<f4"}, [(30, 40)] * 6, [None] * 6
    ),
    "replace-sizes": stream(
        {"mode": "replace", "shape": [None, 4], "dtype": "<u2", "keep_versions": 2},
        [(2, 4), (90, 4), (4,), (3, 4), (70, 4), (1, 4)],
        [None] * 6,
    ),
    "replace-all": stream(
        {"mode": "replace", "shape": [5], "dtype": "<f8", "keep_versions": "all"},
        [(5,)] * 6,
        [None] * 6,
    ),
    "accumulate": stream(
        {"mode": "accumulate", "shape": [20, 30], "dtype": "<u2"}, [(20, 30)] * 7, [None] * 7
    ),
    "accumulate-floats": stream(
        {"mode": "accumulate", "shape": [1000], "dtype": "<f4"}, [(1000,)] * 7, [None] * 7
    ),
}


def write(file: UpdateFile, updates: list[tuple[Update, np.ndarray]]) -> None:
    for update, values in updates:
        file.write(update, values)
    file.flush()


def text(array: np.ndarray) -> str:
    """Return the values as text, in which NaN equals NaN."""
    return json.dumps(array.tolist())


def contents(path: Path) -> dict[str, Any]:
    """Return all that a reader returns, independent of the order of writing."""
    with UpdateReader(path) as reader:
        return {
            "numbers": sorted(reader.numbers()),
            "count": reader.count(),
            "array": text(reader.read()),
            "updates": {str(n): text(reader.update(n)) for n in reader.readable()},
        }


def written_in_order(stream: Stream, path: Path) -> dict[str, Any]:
    """Return the contents of a stream that was written in order by one writer."""
    file = stream.open(path)
    write(file, stream.updates)
    file.close()
    return contents(path)
