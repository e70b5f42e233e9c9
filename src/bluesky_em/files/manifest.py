"""The manifest: the final account of a complete run, beside its files."""

from __future__ import annotations

import json
import platform
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

from bluesky_em.reference import ReferenceState
from bluesky_em.update_modes import UpdateDeclaration, UpdateMode

from .atomic import write_whole
from .damaged import DAMAGED, kept_copies
from .hdf5.updates import Extent
from .ledger import Entry
from .scan_map import passes

NAME = "manifest.json"
"""In the run's folder, beside its files."""
BLOCK = 1 << 20  # bytes of a journal, or of a master file, that have one checksum
_PACKAGES = ("bluesky-em", "bluesky", "ophyd-async", "event-model", "tiled", "h5py", "numpy")


def compose(
    run: str,
    entries: Iterable[Entry],
    events: Mapping[str, int],
    *,
    abandoned: bool,
    folder: Path | None = None,
    journal: Path | None = None,
) -> dict[str, Any]:
    """Compose a run's manifest, of plain data.

    Args:
        run: its uid.
        entries: those of all its references, from the ledger.
        events: their number, by stream.
        abandoned: its process died before it emitted the stop document.
        folder: of its files.
        journal: of the run.

    Returns:
        `complete` (True), `abandoned`, `references` (counts by stage), `failed` (reference to
        reason; of a block, its first reference), `events`, `files` (see `_file`), `damaged`
        (names of damaged files, and of a damaged journal, that were replaced and are kept), and
        `versions` of the software that wrote it. The caller adds `master`, the outcome of
        `master.write`, `journal` (see `checksums`), `tables` (the rows of each table in Tiled) and
        `simplified` (columns that are text, since Tiled refused them) and `unreadable` (files of
        other packages' detectors that Tiled could not read then, and why).
    """
    entries = list(entries)
    kept = sorted((e for e in entries if e.frame.path), key=lambda e: (e.frame.path, e.frame.row))
    return {
        "run": run,
        "complete": True,
        "abandoned": abandoned,
        "references": count_stages(entries),
        "failed": {
            e.frame.reference: e.reason for e in entries if e.stage is ReferenceState.FAILED
        },
        "events": dict(events),
        "files": [_file(list(group)) for _, group in groupby(kept, key=lambda e: e.frame.path)],
        "damaged": [
            path.name
            for path in [
                *(sorted(folder.glob(f"*{DAMAGED}*")) if folder else []),
                *(kept_copies(journal) if journal else []),
            ]
        ],
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in _PACKAGES},
        },
    }


def count_stages(entries: Iterable[Entry]) -> dict[str, int]:
    """Count references by stage."""
    stages: Counter[str] = Counter()
    for entry in entries:
        stages[entry.stage.value] += entry.frame.count
    return dict(stages)


def write(manifest: Mapping[str, Any], folder: Path) -> None:
    """Write a manifest into the run's folder, replacing an earlier one; it survives a power cut."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / NAME, json.dumps(manifest, indent=1))


def read(folder: Path) -> dict[str, Any] | None:
    """Return the manifest in a run's folder; None if there is none, or it is damaged."""
    try:
        found = json.loads((folder / NAME).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def remark(account: Mapping[str, Any]) -> str:
    """Return in words how complete a run is.

    >>> remark({"unreadable": [{"array": "primary/cam", "file": "/x/1.npy", "why": "it is gone"}]})
    'complete, but Tiled cannot read primary/cam from /x/1.npy: it is gone'
    """
    files = [f"{each['array']} from {each['file']}" for each in account.get("unreadable", ())]
    why = next((each["why"] for each in account.get("unreadable", ())), "")
    return f"complete, but Tiled cannot read {' and '.join(files)}: {why}" if files else "complete"


def checksums(path: Path) -> dict[str, Any]:
    """Return `bytes`, `block` and the CRC-32 of each block of that size; the entry `journal`."""
    with open(path, "rb") as file:
        blocks = [zlib.crc32(block) for block in iter(partial(file.read, BLOCK), b"")]
        return {"bytes": file.tell(), "block": BLOCK, "checksums": blocks}


def _file(entries: list[Entry]) -> dict[str, Any]:
    """Describe one file: its rows, those that hold no frame (`gaps`), and one checksum of all.

    For a file of updates: their `count`, the failed ones (`gaps`), their declaration (`update`),
    and the shape of the array they form. The checksum is the CRC-32 of the frames' CRC-32s (of
    blocks, the blocks'), as little-endian `u4` in row order. `maps` lists the passes of a scan,
    each with its number of measured points (`taken`).
    """
    first, last = entries[0].frame, entries[-1].frame
    checksum = 0
    rows = last.row + last.count
    if first.update is None:
        blocks = [(e.frame.scan, e.frame.row, e.frame.count, e.frame.number) for e in entries]
        maps = [
            {"shape": [scan.y.size, scan.x.size], "taken": scan.rows, "row": scan.row}
            for scan in passes(blocks)
        ]
        lines = max(e.frame.end_row for e in entries) // first.points if first.points else 0
        shape = [lines, first.points] if first.points else [rows]
        about = {"shape": [*shape, *first.shape], "dtype": first.dtype, "maps": maps}
    else:
        about = {**_array(first.update, entries), "update": first.update, "count": rows}
    for entry in entries:
        if entry.stage is not ReferenceState.FAILED:
            checksum = zlib.crc32(entry.frame.checksum.to_bytes(4, "little"), checksum)
    return {
        "path": first.path,
        "stream": first.stream,
        "detector": first.detector,
        **about,
        "checksum": checksum,
        "gaps": [
            row
            for entry in entries
            if entry.stage is ReferenceState.FAILED
            for row in entry.frame.rows
        ],
    }


def _array(update: Mapping[str, Any], entries: Iterable[Entry]) -> dict[str, Any]:
    """Return shape and dtype of the array that updates have formed."""
    declared = UpdateDeclaration.load(update)
    extent = Extent(declared)
    for entry in entries:
        if entry.stage is not ReferenceState.FAILED:
            extent.add(entry.frame.shape, entry.frame.index)
    total = declared.mode is UpdateMode.ACCUMULATE
    return {
        "shape": list(extent.shape),
        "dtype": declared.sum_dtype.str if total else declared.dtype,
    }
