"""Find out what is wrong with a storage folder, and mend it: `bluesky-em doctor`.

First only looks. What it finds says what would mend it; with `--repair` it does so where it can,
by the same means that the writer has: files are repaired only while no writer works, and runs are
handed to the writer to be gone through again.
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

from bluesky_em.acquisition.client import Client
from bluesky_em.acquisition.instrument_pc.server import PROTOCOL
from bluesky_em.errors import ServerUnreachable, StorageBusy
from bluesky_em.files import journal_reader, operator_requests
from bluesky_em.files.hdf5 import FramesReader, is_torn, repair
from bluesky_em.files.layout import Layout
from bluesky_em.files.ledger import Ledger
from bluesky_em.files.locks import is_held
from bluesky_em.files.operator_requests import Action, Request

from ..disk_reserve import SIZE
from .audit import Fault, Finding, Location, audit_run

CLOCKS = 1.0  # seconds by which two PCs' clocks may differ
HEARD = 5.0  # seconds a writer, if there is one, may take to hear a request
ANSWER = 5.0  # seconds an acquisition server may take to answer


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is not as it should be."""

    what: str
    cure: str
    """what `repair` does; without one, what a person can do"""
    repair: Callable[[], None] | None = None


def examine(layout: Layout, catalog: Callable[[], Any] | None, newest: int) -> Iterator[Problem]:
    """Look for ailments; changes nothing.

    Args:
        layout: the storage folder.
        catalog: gives a Tiled client; None leaves Tiled out.
        newest: how many runs, counted from the newest, are read whole and compared.
    """
    ledger = Ledger(layout.ledger)
    try:
        yield from _packages()
        yield from _folder(layout, ledger)
        yield from _leftovers(layout)
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
                cure="pip install --upgrade bluesky-em",
            )


def _folder(layout: Layout, ledger: Ledger) -> Iterator[Problem]:
    try:
        layout.try_writing()
    except OSError as exc:
        yield Problem(
            what=f"{layout.root} cannot be written ({exc.strerror})",
            cure="give this user the right to write there, and mount the disk for writing",
        )
        return
    free = shutil.disk_usage(layout.root).free
    if free < 4 * SIZE:
        yield Problem(
            what=f"the disk of {layout.root} has only {decimal(free)} free",
            cure="free some space; until then frames stay in their spools",
        )
    complete = ledger.complete_runs()
    waiting = [p for p in layout.journals() if p.stem not in complete]
    if waiting and not is_held(layout.writer_lock):
        yield Problem(
            what=f"{len(waiting)} runs are not complete, and no writer works on {layout.root}",
            cure=f"open a Storage on it, or `bluesky-em writer {layout.root}`",
        )


def _leftovers(layout: Layout) -> Iterator[Problem]:
    if is_held(layout.writer_lock):
        return  # they may be at work
    leftovers = [*layout.data.rglob("*.part"), *layout.requests.glob("*.part")]
    leftovers += [p for p in layout.journal.glob("*.lock") if not is_held(p)]
    for path in leftovers:
        yield Problem(
            what=f"{path} was left by a process that was killed",
            cure="remove it; nothing refers to it",
            repair=path.unlink,
        )


def _servers(ledger: Ledger) -> Iterator[Problem]:
    for server in ledger.servers():
        line = Client(server)
        try:
            before = time.time()
            status = line.call("status", timeout=ANSWER)
            after = time.time()
        except ServerUnreachable as exc:
            waiting = ledger.waiting_at(server)
            if waiting:
                yield Problem(
                    what=f"{waiting} frames wait at {server}, which does not answer: {exc}",
                    cure="start that server; if it will never come back, `bluesky-em give-up RUN`",
                )
            continue
        finally:
            line.close()
        if not before - CLOCKS <= status["time"] <= after + CLOCKS:
            yield Problem(
                what=f"the clock of {server} is {status['time'] - after:+.1f} s from this one",
                cure="let both PCs follow one time server; only time stamps are wrong",
            )
        if status["protocol"] != PROTOCOL:
            yield Problem(
                what=f"{server} speaks version {status['protocol']} of our protocol, this PC "
                f"version {PROTOCOL}",
                cure="bring bluesky-em on both PCs to the same version",
            )
        if status["bytes"] > 0.8 * status["capacity"]:
            yield Problem(
                what=f"the spool of {server} holds {decimal(status['bytes'])} of "
                f"{decimal(status['capacity'])}",
                cure="see what holds the writer up: `bluesky-em status`",
            )


def _torn_files(layout: Layout) -> Iterator[Problem]:
    if is_held(layout.writer_lock):
        return  # open files look like torn ones
    for path in sorted(layout.data.rglob("*.h5")):
        try:
            torn = is_torn(path)
        except (OSError, ValueError) as exc:
            yield Problem(
                what=f"{path} is damaged: {exc}",
                cure="restore it from a backup; its documents are in the journal",
            )
            continue
        if torn:
            yield Problem(
                what=f"{path} was being written when its writer was killed",
                cure="repair its superblock; every flushed frame is there",
                repair=lambda path=path: _repair(layout, path),
            )


def _repair(layout: Layout, path: Path) -> None:
    try:
        with filelock.FileLock(layout.writer_lock, timeout=0):
            repair(path)
            FramesReader(path).close()
    except filelock.Timeout:
        raise StorageBusy(
            f"a writer has begun to work on {layout.root}: it repairs {path}"
        ) from None


def _runs(
    layout: Layout, ledger: Ledger, catalog: Callable[[], Any] | None, newest: int
) -> Iterator[Problem]:
    client = catalog() if catalog else None
    journals = sorted(layout.journals(), key=lambda path: path.stat().st_mtime)
    for path in reversed(journals[-newest:] if newest else []):
        try:
            documents = journal_reader.read(path)
        except (OSError, ValueError) as exc:
            yield Problem(what=str(exc), cure="restore the journal from a backup")
            continue
        if documents and ledger.is_complete(path.stem):  # otherwise the writer will be at it
            run = documents[0][1]["uid"]
            found = audit_run(layout, ledger, run, client)
            yield from (_of_run(layout, run, finding) for finding in found)


def _of_run(layout: Layout, run: str, finding: Finding) -> Problem:
    if finding.place is Location.FILE:
        cure = "restore the file from a backup; the journal tells what was in it"
        return Problem(what=str(finding), cure=cure)
    if finding.fault is Fault.DOUBLED:
        cure = "delete the run in Tiled, with an administrator's key, and ask the doctor again"
        return Problem(what=str(finding), cure=cure)

    def again() -> None:
        path = operator_requests.submit(layout, Request(action=Action.RETRY, run=run))
        operator_requests.wait_accepted([path], HEARD)

    cure = "have the writer go through the run's journal again, and bring to Tiled what it lacks"
    return Problem(what=str(finding), cure=cure, repair=again)
