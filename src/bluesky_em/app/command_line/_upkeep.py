"""Commands for the operator of a storage folder."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bluesky_em.files.layout import Layout

from ._options import DEFAULT_STORAGE, StorageFolder, Tiled, What, layout_of


def writer(
    storage: Annotated[Path, typer.Argument(help="The storage folder.")], tiled: Tiled = None
) -> None:
    """Run the writer of a storage folder as a service, until interrupted."""
    from bluesky_em.files.tiled.file_uri import check_folder
    from bluesky_em.storage.supervisor import Supervisor

    layout = Layout.of(storage)
    check_folder(layout.root)
    supervisor = Supervisor(layout, tiled=tiled, api_key=None)
    print(f"The writer of {storage} is running; Ctrl-C ends it, nothing is lost.")
    try:
        while True:
            time.sleep(1.0)
    except KeyboardInterrupt:
        supervisor.close()


def status(
    storage: StorageFolder = DEFAULT_STORAGE,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the number of references in each stage, rates, backlogs and problems."""
    from bluesky_em.storage.upkeep import status

    seen = status.read(layout_of(storage))
    if as_json:
        print(json.dumps(asdict(seen)))
    else:
        Console().print(status.show(seen))


def verify(
    run: Annotated[str, typer.Argument(help="The uid of a run, or its beginning.")],
    storage: StorageFolder = DEFAULT_STORAGE,
    tiled: Tiled = None,
    with_tiled: Annotated[bool, typer.Option("--tiled-too/--without-tiled")] = True,
) -> None:
    """Compare a run's journal, ledger, files and catalog with each other, byte by byte."""
    from bluesky_em.data import Data
    from bluesky_em.files.ledger import Ledger
    from bluesky_em.files.run_names import find
    from bluesky_em.storage.upkeep.audit import audit_run

    layout = layout_of(storage)
    run = find(layout, run)
    data, ledger = Data(tiled, storage=layout.root), Ledger(layout.ledger)
    try:
        findings = list(audit_run(layout, ledger, run, data.catalog if with_tiled else None))
        counts = Counter(entry.stage.value for entry in ledger.frames(run))
    finally:
        ledger.close()
        data.close()
    for finding in findings:
        print(finding)
    print(f"{run}: {dict(counts) or 'no references'}; {len(findings)} findings")
    sys.exit(bool(findings))


def doctor(
    storage: StorageFolder = DEFAULT_STORAGE,
    tiled: Tiled = None,
    with_tiled: Annotated[bool, typer.Option("--tiled-too/--without-tiled")] = True,
    runs: Annotated[
        int, typer.Option(min=0, help="Number of the newest runs to read completely.")
    ] = 20,
    repair: Annotated[bool, typer.Option("--repair", help="Repair what can be repaired.")] = False,
) -> None:
    """Find problems of a storage folder; change nothing without --repair."""
    from bluesky_em.data import Data
    from bluesky_em.storage.upkeep.doctor import examine

    layout = layout_of(storage)
    data = Data(tiled, storage=layout.root)
    problems = 0
    try:
        client = (lambda: data.catalog) if with_tiled else None
        for problem in examine(layout, client, runs):
            problems += 1
            print(f"- {problem.what}\n  {problem.remedy}")
            if repair and problem.repair is not None:
                problem.repair()
                print("  repaired")
    finally:
        data.close()
    print(
        "no problems" if not problems else "1 problem" if problems == 1 else f"{problems} problems"
    )
    sys.exit(bool(problems) and not repair)


def backup(
    target: Annotated[Path, typer.Argument(help="A folder on another disk; made if absent.")],
    storage: StorageFolder = DEFAULT_STORAGE,
) -> None:
    """Copy a storage folder, also while it is in use; a later call copies only what is new."""
    from bluesky_em.storage.upkeep.backup import back_up

    try:
        copied = sum(1 for _ in back_up(layout_of(storage), target))
    except (OSError, ValueError) as exc:
        print(f"no backup: {exc}", file=sys.stderr)
        sys.exit(1)
    print(f"{copied} files copied to {target}; `bluesky-em status --storage {target}` shows them")


def retry(what: What, storage: StorageFolder = DEFAULT_STORAGE) -> None:
    """Ask the writer to try failed frames again, by reference or by run."""
    from bluesky_em.files.operator_requests import Action

    _ask(storage, Action.RETRY, what)


def give_up(
    what: What,
    reason: Annotated[str, typer.Option(help="The reason, for readers of the run.")],
    storage: StorageFolder = DEFAULT_STORAGE,
) -> None:
    """Mark frames as failed whose server will not return, so that their run becomes complete."""
    from bluesky_em.files.operator_requests import Action

    _ask(storage, Action.GIVE_UP, what, reason)


def _ask(storage: Path, action: Any, what: list[str], reason: str = "") -> None:
    from bluesky_em.files import operator_requests
    from bluesky_em.files.ledger import Ledger

    layout = layout_of(storage)
    ledger = Ledger(layout.ledger)
    try:
        paths = operator_requests.submit_for(layout, ledger, action, what, reason)
    finally:
        ledger.close()
    if operator_requests.wait_accepted(paths, timeout=5.0):
        print(f"The writer works on it; `bluesky-em status --storage {layout.root}` shows how far")
    else:
        print(f"Saved. No writer is running on {layout.root}; the next one will do it")
