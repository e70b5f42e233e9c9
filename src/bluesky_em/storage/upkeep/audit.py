"""Hold journal, ledger, files and catalog against each other: all there, once, and true?"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from math import prod
from pathlib import Path
from typing import Any

from bluesky_em import documents
from bluesky_em.documents import Document
from bluesky_em.files import journal_reader, manifest
from bluesky_em.files.hdf5 import FramesReader
from bluesky_em.files.hdf5.updates import UpdateReader
from bluesky_em.files.layout import Layout
from bluesky_em.files.ledger import Entry, Ledger
from bluesky_em.files.tiled.row_map import KEY
from bluesky_em.frame import Frame
from bluesky_em.reference import ReferenceState

SLAB = 32 << 20  # bytes of pixels that are read from Tiled at once


class Fault(StrEnum):
    """What can be the matter with a reference."""

    LOST = "lost"
    """It was handed out, and is neither where it should be nor called failed."""
    DOUBLED = "doubled"
    """It, or its event, is there more than once."""
    WRONG = "wrong"
    """What is there is not what was exposed, or what is said of it is not true."""
    UNFINISHED = "unfinished"
    """Its run is not complete; no fault, if the writer is at work."""


class Location(StrEnum):
    """Where it shows, which decides what can mend it."""

    LEDGER = "ledger"
    FILE = "file"
    CATALOG = "catalog"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is not as it should be."""

    fault: Fault
    place: Location
    run: str
    what: str
    """in words, with the reference and the values that disagree"""

    def __str__(self) -> str:
        return f"{self.fault.value}: {self.what} (run {self.run})"


def audit_run(layout: Layout, ledger: Ledger, run: str, catalog: Any = None) -> Iterator[Finding]:
    """Check one run, reading every frame's bytes in its file (and in Tiled).

    Args:
        layout: the storage folder.
        ledger: its ledger, read-only will do.
        run: uid of the run.
        catalog: a Tiled client; None leaves Tiled out.

    Raises:
        FileNotFoundError: there is no journal of that run here.
    """
    path = layout.journal_of(run)
    run_documents: list[tuple[str, Document]] = list(journal_reader.read(path))
    if not ledger.is_complete(path.stem):
        yield Finding(
            fault=Fault.UNFINISHED, place=Location.LEDGER, run=run, what=f"{path} is not worked off"
        )
        return
    entries = ledger.frames(run)
    known = {reference for entry in entries for reference in entry.frame.references}
    for reference in documents.references(run_documents):
        if reference not in known:
            what = f"{reference} is in the journal and not in the ledger"
            yield Finding(fault=Fault.LOST, place=Location.LEDGER, run=run, what=what)
    for entry in entries:
        yield from _check_stage(run, entry)
    yield from _check_files(layout, run, entries)
    if catalog is not None:
        yield from _check_catalog(layout, catalog, run, run_documents, entries)


def _check_stage(run: str, entry: Entry) -> Iterator[Finding]:
    ended = {ReferenceState.CATALOGUED, ReferenceState.FAILED}
    if entry.stage not in ended:
        what = f"{entry.frame.reference} is only {entry.stage.value}, though its run is complete"
        yield Finding(fault=Fault.WRONG, place=Location.LEDGER, run=run, what=what)
    if entry.stage is ReferenceState.FAILED and not entry.reason:
        what = f"{entry.frame.reference} has failed without a reason"
        yield Finding(fault=Fault.WRONG, place=Location.LEDGER, run=run, what=what)


def _check_files(layout: Layout, run: str, entries: list[Entry]) -> Iterator[Finding]:
    kept = [
        entry
        for entry in entries
        if entry.stage in (ReferenceState.STORED, ReferenceState.CATALOGUED)
    ]
    for name in sorted({entry.frame.path for entry in kept}):
        frames = [entry.frame for entry in kept if entry.frame.path == name]
        check = _check_rows if frames[0].update is None else _check_updates
        try:
            yield from check(layout.root / name, run, frames)
        except OSError as exc:
            yield Finding(
                fault=Fault.LOST, place=Location.FILE, run=run, what=f"{name} cannot be read: {exc}"
            )


def _check_rows(path: Path, run: str, frames: list[Frame]) -> Iterator[Finding]:
    with FramesReader(path) as reader:
        numbers = Counter(number for number in reader.numbers() if number >= 0)
        yield from _check_doubled(path, run, numbers)
        for frame in frames:
            found = zlib.crc32(reader.rows(frame.row, frame.count).tobytes())
            if found != frame.checksum:
                what = (
                    f"{frame.reference}: row {frame.row} of {frame.path} has CRC-32 {found:08x}, "
                    f"exposed was {frame.checksum:08x}"
                )
                yield Finding(fault=Fault.WRONG, place=Location.FILE, run=run, what=what)


def _check_updates(path: Path, run: str, frames: list[Frame]) -> Iterator[Finding]:
    """Check that each update came once, and what is left of it.

    That a later one has taken its place is no fault.
    """
    with UpdateReader(path) as reader:
        numbers = Counter(reader.numbers())
        yield from _check_doubled(path, run, numbers)
        checksums = {int(row["number"]): int(row["checksum"]) for row in reader.table()}
        readable = set(reader.readable())
        for frame in frames:
            fault, said = None, ""
            if numbers.pop(frame.row, 0) == 0:
                fault, said = Fault.LOST, "is not among the updates"
            elif checksums[frame.row] != frame.checksum:
                fault, said = Fault.WRONG, f"came with CRC-32 {checksums[frame.row]:08x}"
            elif frame.row in readable and _checksum_of(reader, frame.row) != frame.checksum:
                fault, said = Fault.WRONG, "cannot be read, though nothing came after it"
            if fault is not None:
                what = f"{frame.reference}: update {frame.row} {said} of {path.name}"
                yield Finding(fault=fault, place=Location.FILE, run=run, what=what)
        for number in numbers:
            what = f"{path.name} has update {number}, which is not said to be stored"
            yield Finding(fault=Fault.WRONG, place=Location.FILE, run=run, what=what)


def _checksum_of(reader: UpdateReader, number: int) -> int | None:
    try:
        return zlib.crc32(reader.update(number).tobytes())
    except LookupError:
        return None


def _check_doubled(path: Path, run: str, numbers: Counter[int]) -> Iterator[Finding]:
    for number in (n for n, count in numbers.items() if count > 1):
        what = f"{path.name} holds frame {number} {numbers[number]} times"
        yield Finding(fault=Fault.DOUBLED, place=Location.FILE, run=run, what=what)


def _check_catalog(
    layout: Layout,
    catalog: Any,
    run: str,
    run_documents: list[tuple[str, Document]],
    entries: list[Entry],
) -> Iterator[Finding]:
    client = getattr(catalog, "v3", catalog)
    if run not in client:
        yield Finding(
            fault=Fault.LOST, place=Location.CATALOG, run=run, what="Tiled does not have the run"
        )
        return
    node = client[run]
    stop = [document for name, document in run_documents if name == "stop"]
    if bool(stop) != bool(node.metadata.get("stop")):
        what = "journal and Tiled disagree on whether the run has stopped"
        yield Finding(fault=Fault.WRONG, place=Location.CATALOG, run=run, what=what)
    stages = manifest.count_stages(entries)
    if (said := node.metadata.get(KEY, {}).get("references")) != stages:
        what = f"the manifest in Tiled says {said}, the ledger says {stages}"
        yield Finding(fault=Fault.WRONG, place=Location.CATALOG, run=run, what=what)
    names = {d["uid"]: d["name"] for name, d in run_documents if name == "descriptor"}
    expected: dict[str, list[Document]] = {}
    for name, document in run_documents:
        for event in documents.events(name, document):
            expected.setdefault(names[event["descriptor"]], []).append(event)
    for stream, events in expected.items():
        base = node[stream].base
        numbers = [event["seq_num"] for event in events]
        yield from _check_events(base, run, stream, numbers)
        yield from _check_arrays(base, run, stream, events)
    taken = {e.frame.stream for e in entries if e.stage is ReferenceState.CATALOGUED}
    for stream in sorted(taken):
        yield from _check_frames(layout, node[stream].base, run, stream, entries)


def _check_events(node: Any, run: str, stream: str, numbers: list[int]) -> Iterator[Finding]:
    there = [int(number) for number in node["internal"].read(["seq_num"])["seq_num"]]
    counts = Counter(there)
    for number in sorted(set(numbers) - set(there)):
        what = f"event {number} of stream {stream} is not in Tiled"
        yield Finding(fault=Fault.LOST, place=Location.CATALOG, run=run, what=what)
    for number in (n for n, count in counts.items() if count > 1):
        what = f"event {number} of stream {stream} is {counts[number]} times in Tiled"
        yield Finding(fault=Fault.DOUBLED, place=Location.CATALOG, run=run, what=what)


def _check_frames(
    layout: Layout, node: Any, run: str, stream: str, entries: list[Entry]
) -> Iterator[Finding]:
    placed = [entry for entry in entries if entry.frame.stream == stream]
    for detector in sorted({entry.frame.detector for entry in placed}):
        array, own = node[detector], [e for e in placed if e.frame.detector == detector]
        if own[0].frame.update is not None:
            yield from _check_array(layout.root / own[0].frame.path, array, run, own[0].frame)
            continue
        rows = sum(entry.frame.count for entry in own)
        if array.shape[0] != rows:
            fault = Fault.LOST if array.shape[0] < rows else Fault.DOUBLED
            what = f"{stream}/{detector} has {array.shape[0]} rows in Tiled, frames: {rows}"
            yield Finding(fault=fault, place=Location.CATALOG, run=run, what=what)
            continue
        for frame, pixels in _read(
            array, [e.frame for e in own if e.stage is ReferenceState.CATALOGUED]
        ):
            if zlib.crc32(pixels.tobytes()) != frame.checksum:
                what = f"{frame.reference}: Tiled gives other bytes than were exposed"
                yield Finding(fault=Fault.WRONG, place=Location.CATALOG, run=run, what=what)


def _check_array(path: Path, array: Any, run: str, frame: Frame) -> Iterator[Finding]:
    """Check that Tiled shows what updates have made."""
    name = f"{frame.stream}/{frame.detector}"
    with UpdateReader(path) as reader:
        if array.shape != reader.shape:
            what = f"{name} has shape {array.shape} in Tiled, and {reader.shape} in its file"
            yield Finding(fault=Fault.WRONG, place=Location.CATALOG, run=run, what=what)
            return
        for rows in _slabs(array):
            there, made = array[rows], reader.read((rows,))
            if there.dtype != made.dtype or there.tobytes() != made.tobytes():
                what = f"{name}: Tiled gives something else than its updates have made"
                yield Finding(fault=Fault.WRONG, place=Location.CATALOG, run=run, what=what)
                return


def _slabs(array: Any) -> list[slice]:
    """Cut an array on axis 0 into parts of a size that can be asked for at once."""
    rows = array.shape[0]
    most = max(1, SLAB * rows // max(1, prod(array.shape) * array.dtype.itemsize))
    return [slice(start, min(rows, start + most)) for start in range(0, rows, most)]


def _read(array: Any, frames: list[Frame]) -> Iterator[tuple[Frame, Any]]:
    """Read frames from Tiled, many with one request: each costs 15-30 ms."""
    most = max(1, SLAB // max(1, frames[0].nbytes)) if frames else 1
    for start in range(0, len(frames), most):
        some = frames[start : start + most]
        first = some[0].row
        pixels = array[first : some[-1].rows.stop]
        for frame in some:
            yield frame, pixels[frame.row - first : frame.rows.stop - first]


def _check_arrays(node: Any, run: str, stream: str, events: list[Document]) -> Iterator[Finding]:
    """Count the rows of arrays that came inside events; few others are as long as their stream."""
    given = Counter(key for event in events for key in event["data"])
    inside = {key for key, about in node.metadata["data_keys"].items() if "external" not in about}
    for key in sorted(inside & set(node)):
        if (there := node[key].shape[0]) != given[key]:
            fault = Fault.LOST if there < given[key] else Fault.DOUBLED
            what = f"{stream}/{key} has {there} rows in Tiled, events: {given[key]}"
            yield Finding(fault=fault, place=Location.CATALOG, run=run, what=what)
