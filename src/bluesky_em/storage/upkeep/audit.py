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

import httpx

from bluesky_em import documents
from bluesky_em.axes import Axis
from bluesky_em.documents import Document
from bluesky_em.files import journal_reader
from bluesky_em.files.hdf5 import FramesReader
from bluesky_em.files.hdf5.updates import UpdateReader
from bluesky_em.files.layout import Layout
from bluesky_em.files.ledger import Entry, Ledger
from bluesky_em.files.map_rows import MapRows
from bluesky_em.files.tiled import results_container
from bluesky_em.files.tiled.address import runs_of
from bluesky_em.files.tiled.values import address_name
from bluesky_em.frame import Frame
from bluesky_em.reference import ReferenceState

from ..catalog import other_files
from ..catalog.run_replay import RunReplay
from . import _frames_table, _run_account

READ_BYTES = 32 << 20  # bytes of pixels that one request reads from Tiled


class FindingKind(StrEnum):
    """What is wrong with a reference or its run."""

    LOST = "lost"
    """It was handed out, but is not where it should be and is not marked as failed."""
    DOUBLED = "doubled"
    """The reference, or its event, exists more than once."""
    WRONG = "wrong"
    """The data are not those that were exposed, or a record about them is not true."""
    UNREADABLE = "unreadable"
    """Tiled cannot read a file of another package's detector."""
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
    try:
        run_documents: list[tuple[str, Document]] = [*journal_reader.read(path)]
    except ValueError as exc:
        yield Finding(kind=FindingKind.WRONG, location=Location.FILE, run=run, what=str(exc))
        return
    if not ledger.is_complete(path.stem):
        what = f"{path} is not fully processed yet"
        yield Finding(kind=FindingKind.UNFINISHED, location=Location.LEDGER, run=run, what=what)
        return
    if not run_documents:
        return
    if _run_account.is_journal_changed(layout, path, run_documents[0][1]):
        what = f"{path} has other bytes than when the run was completed; nothing else was checked"
        yield Finding(kind=FindingKind.WRONG, location=Location.FILE, run=run, what=what)
        return
    entries = ledger.frames(run)
    checks = [
        (Location.LEDGER, _check_ledger(run_documents, entries)),
        (Location.FILE, _check_files(layout, entries)),
        (Location.LEDGER, _check_manifest(layout, run_documents, entries)),
    ]
    if catalog is not None:
        found = _check_catalog(layout, ledger, catalog, run, run_documents, entries)
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


def _check_manifest(
    layout: Layout, run_documents: list[tuple[str, Document]], entries: list[Entry]
) -> _Findings:
    account = _run_account.read(layout, run_documents[0][1])
    for what in _run_account.untruths(layout, account, run_documents, entries):
        yield FindingKind.WRONG, what
    try:
        if account and _run_account.is_master_changed(layout, account):
            what = f"the master file {account['master']['path']} has other bytes than were written"
            yield FindingKind.WRONG, what
    except OSError as exc:
        yield FindingKind.LOST, f"the master file cannot be read: {exc}"
    except (AttributeError, KeyError, TypeError) as exc:
        yield FindingKind.WRONG, f"its manifest cannot describe a master file: {exc!r}"


def _check_files(layout: Layout, entries: list[Entry]) -> _Findings:
    stored = [
        entry.frame
        for entry in entries
        if entry.stage in (ReferenceState.STORED, ReferenceState.CATALOGUED)
    ]
    for name in sorted({frame.path for frame in stored}):
        frames = [frame for frame in stored if frame.path == name]
        axes = {entry.frame.axes for entry in entries if entry.frame.path == name}
        try:
            if frames[0].update is None:
                yield from _check_rows(layout.root / name, frames, axes)
            else:
                yield from _check_updates(layout.root / name, frames)
        except (OSError, KeyError) as exc:  # HDF5 raises either for what is not there
            yield FindingKind.LOST, f"{name} cannot be read: {exc}"


def _check_rows(path: Path, frames: list[Frame], axes: set[tuple[Axis, ...]]) -> _Findings:
    with FramesReader(path) as reader:
        columns = reader.columns()
        numbers = Counter(int(number) for number in columns["number"] if number >= 0)
        yield from _check_doubled(path, numbers)
        for what in _frames_table.untruths_of_file(reader, frames[0], axes):
            yield FindingKind.WRONG, what
        for frame in frames:
            pixels = reader.rows(frame.row, frame.count)
            found = zlib.crc32(pixels.tobytes())
            if found != frame.checksum:
                yield (
                    FindingKind.WRONG,
                    f"{frame.reference}: row {frame.row} of {frame.path} has CRC-32 {found:08x}, "
                    f"exposed was {frame.checksum:08x}",
                )
            for what in _frames_table.untruths(frame, pixels, columns):
                yield FindingKind.WRONG, what


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
    ledger: Ledger,
    catalog: Any,
    run: str,
    run_documents: list[tuple[str, Document]],
    entries: list[Entry],
) -> _Findings:
    catalog = catalog.include_data_sources()
    try:
        node = results_container.find_run(catalog, run)
    except KeyError:
        yield FindingKind.LOST, "Tiled does not have the run"
        return
    account = _run_account.read(layout, run_documents[0][1]) or {}
    try:
        place = results_container.place_of(runs_of(catalog), run_documents[0][1])
        replay = RunReplay(layout, ledger, run_documents, place, account)
        for kind, what in replay.differences():
            yield FindingKind(kind), what
    except httpx.HTTPError:
        raise
    except Exception as exc:  # whatever a manifest or metadata that make no sense lead to
        yield FindingKind.WRONG, f"Tiled or the manifest cannot be what was written: {exc!r}"
        return
    for file in other_files.unreadable(node, layout):
        yield FindingKind.UNREADABLE, other_files.in_words(file)
    if account.get("tables", replay.tables) != replay.tables:
        yield FindingKind.WRONG, f"its manifest says that Tiled has the rows {account['tables']}"
    for stream in sorted({e.frame.stream for e in entries if e.stage is ReferenceState.CATALOGUED}):
        if (name := address_name(stream)) in node:
            yield from _check_frames(layout, node[name].base, stream, entries)


def _check_frames(layout: Layout, node: Any, stream: str, entries: list[Entry]) -> _Findings:
    of_stream = [entry for entry in entries if entry.frame.stream == stream]
    for detector in sorted({entry.frame.detector for entry in of_stream}):
        own = [entry for entry in of_stream if entry.frame.detector == detector]
        if detector not in node:  # reported with the other nodes
            continue
        array, first = node[detector], own[0].frame
        if first.update is not None:
            yield from _check_array(layout.root / first.path, array, f"{stream}/{detector}")
            continue
        pixels_of = MapRows(array) if first.points else array
        rows = max(entry.frame.end_row for entry in own)
        if (found := pixels_of.shape[0]) != rows:
            kind = FindingKind.LOST if found < rows else FindingKind.DOUBLED
            yield kind, f"{stream}/{detector} has {found} rows in Tiled, frames: {rows}"
            continue
        catalogued = [e.frame for e in own if e.stage is ReferenceState.CATALOGUED]
        for frame, pixels in _read(pixels_of, catalogued):
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
