"""Compare journal, ledger, files and catalog of a run: nothing lost, doubled or wrong."""

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
from bluesky_em.files.tiled.address import runs_of
from bluesky_em.files.tiled.row_map import KEY
from bluesky_em.files.tiled.values import address_name, columns
from bluesky_em.frame import Frame
from bluesky_em.reference import ReferenceState

READ_BYTES = 32 << 20  # bytes of pixels that one request reads from Tiled


class FindingKind(StrEnum):
    """What is wrong with a reference or its run."""

    LOST = "lost"
    """It was handed out, but is not where it should be and is not marked as failed."""
    DOUBLED = "doubled"
    """The reference, or its event, exists more than once."""
    WRONG = "wrong"
    """The data are not those that were exposed, or a record about them is not true."""
    UNFINISHED = "unfinished"
    """Its run is not complete; not an error while the writer works on it."""


class Location(StrEnum):
    """Where a finding shows; it decides which repair is possible."""

    LEDGER = "ledger"
    FILE = "file"
    CATALOG = "catalog"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is not as it should be."""

    kind: FindingKind
    location: Location
    run: str
    what: str
    """in words, with the reference and the values that disagree"""

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.what} (run {self.run})"


_Findings = Iterator[tuple[FindingKind, str]]
"""Kind and words of each finding of one check."""


def audit_run(layout: Layout, ledger: Ledger, run: str, catalog: Any = None) -> Iterator[Finding]:
    """Check one run, reading every frame's bytes from its file (and from Tiled).

    Args:
        layout: the storage folder.
        ledger: its ledger; read-only is enough.
        run: uid of the run.
        catalog: a Tiled client; None skips Tiled.

    Raises:
        FileNotFoundError: there is no journal of that run here.
    """
    path = layout.journal_of(run)
    run_documents: list[tuple[str, Document]] = list(journal_reader.read(path))
    if not ledger.is_complete(path.stem):
        what = f"{path} is not fully processed yet"
        yield Finding(kind=FindingKind.UNFINISHED, location=Location.LEDGER, run=run, what=what)
        return
    entries = ledger.frames(run)
    checks = [
        (Location.LEDGER, _check_ledger(run_documents, entries)),
        (Location.FILE, _check_files(layout, entries)),
    ]
    if catalog is not None:
        found = _check_catalog(layout, catalog, run, run_documents, entries)
        checks.append((Location.CATALOG, found))
    for location, findings in checks:
        for kind, what in findings:
            yield Finding(kind=kind, location=location, run=run, what=what)


def _check_ledger(run_documents: list[tuple[str, Document]], entries: list[Entry]) -> _Findings:
    known = {reference for entry in entries for reference in entry.frame.references}
    for reference in documents.references(run_documents):
        if reference not in known:
            yield FindingKind.LOST, f"{reference} is in the journal and not in the ledger"
    for entry in entries:
        reference, stage = entry.frame.reference, entry.stage
        if stage not in (ReferenceState.CATALOGUED, ReferenceState.FAILED):
            yield (
                FindingKind.WRONG,
                f"{reference} is only {stage.value}, though its run is complete",
            )
        if stage is ReferenceState.FAILED and not entry.reason:
            yield FindingKind.WRONG, f"{reference} has failed without a reason"


def _check_files(layout: Layout, entries: list[Entry]) -> _Findings:
    stored = [
        entry.frame
        for entry in entries
        if entry.stage in (ReferenceState.STORED, ReferenceState.CATALOGUED)
    ]
    for name in sorted({frame.path for frame in stored}):
        frames = [frame for frame in stored if frame.path == name]
        check = _check_rows if frames[0].update is None else _check_updates
        try:
            yield from check(layout.root / name, frames)
        except OSError as exc:
            yield FindingKind.LOST, f"{name} cannot be read: {exc}"


def _check_rows(path: Path, frames: list[Frame]) -> _Findings:
    with FramesReader(path) as reader:
        numbers = Counter(number for number in reader.numbers() if number >= 0)
        yield from _check_doubled(path, numbers)
        for frame in frames:
            found = zlib.crc32(reader.rows(frame.row, frame.count).tobytes())
            if found != frame.checksum:
                yield (
                    FindingKind.WRONG,
                    f"{frame.reference}: row {frame.row} of {frame.path} has CRC-32 {found:08x}, "
                    f"exposed was {frame.checksum:08x}",
                )


def _check_updates(path: Path, frames: list[Frame]) -> _Findings:
    """Check that each update exists once, and those that can still be read.

    An update that a later one has replaced is not an error.
    """
    with UpdateReader(path) as reader:
        numbers = Counter(reader.numbers())
        yield from _check_doubled(path, numbers)
        checksums = {int(row["number"]): int(row["checksum"]) for row in reader.table()}
        readable = set(reader.readable())
        for frame in frames:
            update = f"{frame.reference}: update {frame.row}"
            if numbers.pop(frame.row, 0) == 0:
                yield FindingKind.LOST, f"{update} is not among the updates of {path.name}"
            elif (recorded := checksums[frame.row]) != frame.checksum:
                yield (
                    FindingKind.WRONG,
                    f"{update} of {path.name} was recorded with CRC-32 {recorded:08x}, exposed was "
                    f"{frame.checksum:08x}",
                )
            elif frame.row in readable and _checksum_of(reader, frame.row) != frame.checksum:
                yield (
                    FindingKind.WRONG,
                    f"{update} of {path.name} cannot be read, though no later update replaced it",
                )
        for number in numbers:
            yield (
                FindingKind.WRONG,
                f"{path.name} has update {number}, which the ledger does not list as stored",
            )


def _checksum_of(reader: UpdateReader, number: int) -> int | None:
    try:
        return zlib.crc32(reader.update(number).tobytes())
    except LookupError:
        return None


def _check_doubled(path: Path, numbers: Counter[int]) -> _Findings:
    for number in (n for n, count in numbers.items() if count > 1):
        yield FindingKind.DOUBLED, f"{path.name} holds frame {number} {numbers[number]} times"


def _check_catalog(
    layout: Layout,
    catalog: Any,
    run: str,
    run_documents: list[tuple[str, Document]],
    entries: list[Entry],
) -> _Findings:
    client = runs_of(catalog)
    if run not in client:
        yield FindingKind.LOST, "Tiled does not have the run"
        return
    node = client[run]
    stopped = any(name == "stop" for name, _ in run_documents)
    if stopped != bool(node.metadata.get("stop")):
        yield FindingKind.WRONG, "journal and Tiled disagree on whether the run has stopped"
    stages = manifest.count_stages(entries)
    if (found := node.metadata.get(KEY, {}).get("references")) != stages:
        yield FindingKind.WRONG, f"the manifest in Tiled says {found}, the ledger says {stages}"
    for stream, events in _events_by_stream(run_documents).items():
        base = node[address_name(stream)].base
        yield from _check_events(base, stream, [event["seq_num"] for event in events])
        yield from _check_arrays(base, stream, events)
    for stream in sorted({e.frame.stream for e in entries if e.stage is ReferenceState.CATALOGUED}):
        yield from _check_frames(layout, node[address_name(stream)].base, stream, entries)


def _events_by_stream(run_documents: list[tuple[str, Document]]) -> dict[str, list[Document]]:
    names = {d["uid"]: d["name"] for name, d in run_documents if name == "descriptor"}
    events: dict[str, list[Document]] = {}
    for name, document in run_documents:
        for event in documents.events(name, document):
            events.setdefault(names[event["descriptor"]], []).append(event)
    return events


def _check_events(node: Any, stream: str, numbers: list[int]) -> _Findings:
    counts = Counter(int(number) for number in node["internal"].read(["seq_num"])["seq_num"])
    for number in sorted(set(numbers) - set(counts)):
        yield FindingKind.LOST, f"event {number} of stream {stream} is not in Tiled"
    for number in (n for n, count in counts.items() if count > 1):
        yield (
            FindingKind.DOUBLED,
            f"event {number} of stream {stream} is {counts[number]} times in Tiled",
        )


def _check_arrays(node: Any, stream: str, events: list[Document]) -> _Findings:
    """Count the rows of arrays that came inside events.

    An array of few numbers is a column of the table, as long as the stream.
    """
    external = {key for key, about in node.metadata["data_keys"].items() if "external" in about}
    given = Counter(key for event in events for key in event["data"] if key not in external)
    existing = set(node)
    for key, name in sorted(columns(given).items()):
        if name in existing and (found := node[name].shape[0]) != given[key]:
            kind = FindingKind.LOST if found < given[key] else FindingKind.DOUBLED
            yield kind, f"{stream}/{key} has {found} rows in Tiled, events: {given[key]}"


def _check_frames(layout: Layout, node: Any, stream: str, entries: list[Entry]) -> _Findings:
    of_stream = [entry for entry in entries if entry.frame.stream == stream]
    for detector in sorted({entry.frame.detector for entry in of_stream}):
        own = [entry for entry in of_stream if entry.frame.detector == detector]
        array, first = node[detector], own[0].frame
        if first.update is not None:
            yield from _check_array(layout.root / first.path, array, f"{stream}/{detector}")
            continue
        rows = sum(entry.frame.count for entry in own)
        if array.shape[0] != rows:
            kind = FindingKind.LOST if array.shape[0] < rows else FindingKind.DOUBLED
            yield kind, f"{stream}/{detector} has {array.shape[0]} rows in Tiled, frames: {rows}"
            continue
        catalogued = [e.frame for e in own if e.stage is ReferenceState.CATALOGUED]
        for frame, pixels in _read(array, catalogued):
            if zlib.crc32(pixels.tobytes()) != frame.checksum:
                yield (
                    FindingKind.WRONG,
                    f"{frame.reference}: Tiled gives other bytes than were exposed",
                )


def _check_array(path: Path, array: Any, name: str) -> _Findings:
    """Check that Tiled has the same array as the file of updates."""
    with UpdateReader(path) as reader:
        if array.shape != reader.shape:
            yield (
                FindingKind.WRONG,
                f"{name} has shape {array.shape} in Tiled, and {reader.shape} in its file",
            )
            return
        for rows in _slices(array):
            found, expected = array[rows], reader.read((rows,))
            if found.dtype != expected.dtype or found.tobytes() != expected.tobytes():
                yield FindingKind.WRONG, f"{name}: Tiled gives other values than its file"
                return


def _slices(array: Any) -> list[slice]:
    """Divide axis 0 of an array into parts that one request can read."""
    rows = array.shape[0]
    most = max(1, READ_BYTES * rows // max(1, prod(array.shape) * array.dtype.itemsize))
    return [slice(start, min(rows, start + most)) for start in range(0, rows, most)]


def _read(array: Any, frames: list[Frame]) -> Iterator[tuple[Frame, Any]]:
    """Read frames from Tiled, many with one request: each request takes 15-30 ms."""
    most = max(1, READ_BYTES // max(1, frames[0].nbytes)) if frames else 1
    for start in range(0, len(frames), most):
        some = frames[start : start + most]
        first = some[0].row
        pixels = array[first : some[-1].rows.stop]
        for frame in some:
            yield frame, pixels[frame.row - first : frame.rows.stop - first]
