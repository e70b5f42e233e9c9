"""Commands that look after a storage folder."""

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

from ._options import DEFAULT_STORAGE, StorageFolder, Tiled, layout_of

What = Annotated[list[str], typer.Argument(help="References, or uids of runs.")]


def writer(
    storage: Annotated[Path, typer.Argument(help="The storage folder.")], tiled: Tiled = None
) -> None:
    """Run a storage folder's writer as a service, until interrupted."""
    from bluesky_em.storage.supervisor import Supervisor

    keeper = Supervisor(Layout(storage.expanduser().absolute()), tiled=tiled, api_key=None)
    print(f"Keeping the writer of {storage}; Ctrl-C ends it, nothing is lost.")
    try:
        while True:
            time.sleep(1.0)
    except KeyboardInterrupt:
        keeper.close()


def status(
    storage: StorageFolder = DEFAULT_STORAGE,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Tell how far references are, how fast it goes, what waits where, and what is wrong."""
    from bluesky_em.storage.upkeep import status

    seen = status.look(layout_of(storage))
    if as_json:
        print(json.dumps(asdict(seen)))
    else:
        Console().print(status.show(seen))


def verify(
    run: Annotated[str, typer.Argument(help="The uid of a run.")],
    storage: StorageFolder = DEFAULT_STORAGE,
    tiled: Tiled = None,
    with_tiled: Annotated[bool, typer.Option("--tiled-too/--without-tiled")] = True,
) -> None:
    """Hold a run's journal, ledger, files and catalog against each other, byte by byte."""
    from bluesky_em.data import Data
    from bluesky_em.files.ledger import Ledger
    from bluesky_em.storage.upkeep.audit import audit_run

    layout = layout_of(storage)
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
    runs: Annotated[int, typer.Option(min=0, help="How many of the newest to read whole.")] = 20,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended.")] = False,
) -> None:
    """Look for what is wrong with a storage folder; only with --repair is anything changed."""
    from bluesky_em.data import Data
    from bluesky_em.storage.upkeep import doctor as practice

    layout = layout_of(storage)
    data = Data(tiled, storage=layout.root)
    ailments = 0
    try:
        client = (lambda: data.catalog) if with_tiled else None
        for ailment in practice.examine(layout, client, runs):
            ailments += 1
            print(f"- {ailment.what}\n  {ailment.cure}")
            if repair and ailment.repair is not None:
                ailment.repair()
                print("  done")
    finally:
        data.close()
    print(f"{ailments} ailments" if ailments else "all is well")
    sys.exit(bool(ailments) and not repair)


def retry(what: What, storage: StorageFolder = DEFAULT_STORAGE) -> None:
    """Have failed frames tried again, by reference or by run."""
    from bluesky_em.files.operator_requests import Action

    _ask(storage, Action.RETRY, what)


def give_up(
    what: What,
    reason: Annotated[str, typer.Option(help="For whoever misses them.")],
    storage: StorageFolder = DEFAULT_STORAGE,
) -> None:
    """Call frames failed whose server will not come back, so that their run can be complete."""
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
        print(f"The writer is at it; `bluesky-em status --storage {layout.root}` shows how it goes")
    else:
        print(f"Noted. No writer works on {layout.root} now; the next one will do it")
