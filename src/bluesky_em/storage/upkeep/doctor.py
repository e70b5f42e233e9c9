"""Find problems of a storage folder, and repair them: `bluesky-em doctor`.

Without `--repair` nothing is changed: each problem is printed with its remedy. With it, those that
can be repaired are. Files are repaired only while no writer works on the folder; runs are handed
to the writer, which processes their journals again.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import filelock
from packaging.requirements import Requirement
from rich.filesize import decimal

from bluesky_em.acquisition.client import SpoolClient
from bluesky_em.acquisition.instrument_pc.protocol import PROTOCOL
from bluesky_em.errors import ServerUnreachable, StorageBusy
from bluesky_em.files import journal_reader, operator_requests
from bluesky_em.files.hdf5 import FramesReader, is_torn, repair
from bluesky_em.files.layout import Layout
from bluesky_em.files.ledger import Ledger
from bluesky_em.files.locks import is_held
from bluesky_em.files.operator_requests import Action, Request
from bluesky_em.files.tiled.address import last_address, why_not_ready

from ..disk_reserve import RESERVE_BYTES
from ..failure_monitor import SPOOL_LIMIT
from .audit import Finding, FindingKind, Location, audit_run

CLOCK_LIMIT = 1.0  # seconds by which the clocks of two PCs may differ
REQUEST_TIMEOUT = 5.0  # seconds a running writer may take to accept a request
SERVER_TIMEOUT = 5.0  # seconds an acquisition server may take to answer


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is not as it should be."""

    what: str
    """in words, with the path or the server it is about"""
    remedy: str
    """what `repair` does; without `repair`, what the user can do"""
    repair: Callable[[], None] | None = None
    """None if only the user can do it"""


def examine(layout: Layout, catalog: Callable[[], Any] | None, newest: int) -> Iterator[Problem]:
    """Yield the problems of a storage folder; changes nothing.

    Args:
        layout: the storage folder.
        catalog: returns a Tiled client; None skips Tiled.
        newest: this number of the newest runs is read completely and compared.
    """
    ledger = Ledger(layout.ledger)
    try:
        yield from _packages()
        yield from _folder(layout, ledger)
        yield from _leftovers(layout)
        yield from _tiled_server(layout)
        yield from _servers(ledger)
        yield from _torn_files(layout)
        yield from _runs(layout, ledger, catalog, newest)
    finally:
        ledger.close()


def _packages() -> Iterator[Problem]:
    for requirement in map(Requirement, requires("bluesky-em") or []):
        if requirement.marker and not requirement.marker.evaluate():
            continue
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            installed = "nothing"
        if installed == "nothing" or not requirement.specifier.contains(installed, True):
            yield Problem(
                what=f"{requirement.name} {installed} is installed; {requirement} is needed",
                remedy="pip install --upgrade bluesky-em",
            )


def _folder(layout: Layout, ledger: Ledger) -> Iterator[Problem]:
    try:
        layout.try_writing()
    except OSError as exc:
        yield Problem(
            what=f"{layout.root} cannot be written ({exc.strerror})",
            remedy="give this user write permission there, and mount the disk read-write",
        )
        return
    free = shutil.disk_usage(layout.root).free
    if free < 4 * RESERVE_BYTES:
        yield Problem(
            what=f"the disk of {layout.root} has only {decimal(free)} free",
            remedy="free some space; until then frames stay in their spools",
        )
    complete = ledger.complete_runs()
    waiting = [p for p in layout.journals() if p.stem not in complete]
    if waiting and not is_held(layout.writer_lock):
        yield Problem(
            what=f"{len(waiting)} runs are not complete, and no writer works on {layout.root}",
            remedy=f"open a Storage on it, or `bluesky-em writer {layout.root}`",
        )


def _tiled_server(layout: Layout) -> Iterator[Problem]:
    last = last_address(layout)
    if last is not None and last.has_failed:
        yield Problem(
            what=why_not_ready(layout),
            remedy="do what it says, and open a Storage on the folder again; the catalog can also "
            f"be made again from journals and files, without {layout.catalog}",
        )


def _leftovers(layout: Layout) -> Iterator[Problem]:
    if is_held(layout.writer_lock):
        return  # a writer may be using them
    leftovers = [*layout.data.rglob("*.part"), *layout.requests.glob("*.part")]
    leftovers += [p for p in layout.journal.glob("*.lock") if not is_held(p)]
    for path in leftovers:
        yield Problem(
            what=f"{path} was left by a process that was killed",
            remedy="remove it; nothing refers to it",
            repair=path.unlink,
        )


def _servers(ledger: Ledger) -> Iterator[Problem]:
    for server in ledger.servers():
        client = SpoolClient(server)
        try:
            before = time.time()
            status = client.status(timeout=SERVER_TIMEOUT)
            after = time.time()
        except ServerUnreachable as exc:
            waiting = ledger.waiting_at(server)
            if waiting:
                yield Problem(
                    what=f"{waiting} frames wait at {server}, which does not answer: {exc}",
                    remedy="start that server; if that is impossible, `bluesky-em give-up RUN`",
                )
            continue
        finally:
            client.close()
        if not before - CLOCK_LIMIT <= status["time"] <= after + CLOCK_LIMIT:
            yield Problem(
                what=f"the clock of {server} is {status['time'] - after:+.1f} s from this one",
                remedy="set both PCs to the same time server; only time stamps are wrong",
            )
        if status["protocol"] != PROTOCOL:
            yield Problem(
                what=f"{server} uses version {status['protocol']} of the protocol, this PC "
                f"version {PROTOCOL}",
                remedy="install the same version of bluesky-em on both PCs",
            )
        if status["bytes"] >= SPOOL_LIMIT * status["capacity"]:
            yield Problem(
                what=f"the spool of {server} holds {decimal(status['bytes'])} of "
                f"{decimal(status['capacity'])}",
                remedy="see why the writer does not fetch the frames: `bluesky-em status`",
            )


def _torn_files(layout: Layout) -> Iterator[Problem]:
    if is_held(layout.writer_lock):
        return  # a file that is being written looks like one whose writer was killed
    for path in sorted(layout.data.rglob("*.h5")):
        try:
            torn = is_torn(path)
        except (OSError, ValueError) as exc:
            yield Problem(
                what=f"{path} is damaged: {exc}",
                remedy="restore it from a backup; its documents are in the journal",
            )
            continue
        if torn:
            yield Problem(
                what=f"{path} was being written when its writer was killed",
                remedy="repair its superblock; every flushed frame is there",
                repair=lambda path=path: _repair(layout, path),
            )


def _repair(layout: Layout, path: Path) -> None:
    try:
        with filelock.FileLock(layout.writer_lock, timeout=0):
            repair(path)
            FramesReader(path).close()
    except filelock.Timeout:
        raise StorageBusy(
            f"a writer has started on {layout.root}: it repairs {path} itself"
        ) from None


def _runs(
    layout: Layout, ledger: Ledger, catalog: Callable[[], Any] | None, newest: int
) -> Iterator[Problem]:
    last = last_address(layout)
    client = catalog() if catalog and not (last and last.has_failed) else None
    journals = sorted(layout.journals(), key=layout.last_change)
    for path in reversed(journals[-newest:] if newest else []):
        try:
            documents = journal_reader.read(path)
        except (OSError, ValueError) as exc:
            yield Problem(what=str(exc), remedy="restore the journal from a backup")
            continue
        if documents and ledger.is_complete(path.stem):  # else the writer works on it
            run = documents[0][1]["uid"]
            found = audit_run(layout, ledger, run, client)
            yield from (_problem_of(layout, run, finding) for finding in found)


def _problem_of(layout: Layout, run: str, finding: Finding) -> Problem:
    if finding.location is Location.FILE:
        remedy = "restore the file from a backup; the journal has the documents of its frames"
        return Problem(what=str(finding), remedy=remedy)

    if finding.kind is FindingKind.UNREADABLE:
        return Problem(what=str(finding), remedy="do as it says; the run needs no other repair")

    def process_again() -> None:
        path = operator_requests.submit(layout, Request(action=Action.RETRY, run=run))
        operator_requests.wait_accepted([path], REQUEST_TIMEOUT)

    remedy = "have the writer process the run's journal again and put right what Tiled has"
    return Problem(what=str(finding), remedy=remedy, repair=process_again)
