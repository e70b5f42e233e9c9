"""Requests of an operator to the writer: files in the storage folder, read by the next writer.

They are files because only the writer writes the ledger, and because a request must survive the
process that submits it, also while no writer runs.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from bluesky_em.errors import UnknownReference
from bluesky_em.reference import run_of

from .atomic import write_whole
from .layout import Layout
from .ledger import Ledger
from .run_names import full_uid, newest

POLL_INTERVAL = 0.1  # seconds between two checks whether a request has been accepted


class Action(StrEnum):
    """The actions that can be requested."""

    RETRY = "retry"
    """Try failed frames again, and write the run to Tiled again."""
    GIVE_UP = "give up"
    """Record as failed the frames that wait for a server which will not return."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request, for one run."""

    action: Action
    run: str
    references: tuple[str, ...] = ()
    """which of its frames; empty: all to which the action applies"""
    reason: str = ""
    """why frames are given up, in the operator's words"""


def submit(layout: Layout, request: Request) -> Path:
    """Write a request; the writer removes the returned file when it has accepted the request."""
    layout.requests.mkdir(parents=True, exist_ok=True)
    path = layout.requests / f"{uuid.uuid4()}.json"
    write_whole(path, json.dumps(asdict(request)))
    return path


def submit_for(
    layout: Layout, ledger: Ledger, action: Action, what: Iterable[str], reason: str = ""
) -> list[Path]:
    """Write requests for references and runs, one for each run.

    Raises:
        UnknownReference: there is no such reference or run in this folder.
    """
    chosen: dict[str, list[str]] = {}
    for given in what:
        run = run_of(given) if "/" in given else given
        name = full_uid(layout, run) + given.removeprefix(run)
        entry = ledger.block(name)  # of a fly scan, frames fail and are fetched by blocks
        if entry is None and not layout.journal_of(name).exists():
            raise UnknownReference(
                f"{given!r} is neither a reference nor a run in {layout.root}: {newest(layout)}. "
                "`bluesky-em status` shows what has failed"
            )
        references = chosen.setdefault(entry.frame.run if entry else name, [])
        references += [entry.frame.reference] if entry else []
    return [
        submit(layout, Request(action=action, run=run, references=tuple(references), reason=reason))
        for run, references in chosen.items()
    ]


def wait_accepted(paths: Iterable[Path], timeout: float) -> bool:
    """Wait until a writer has accepted requests; return whether it has, within `timeout` s."""
    deadline = time.monotonic() + timeout
    while any(path.exists() for path in paths):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_INTERVAL)
    return True


def pending(layout: Layout) -> Iterator[tuple[Path, Request]]:
    """Yield the requests that no writer has accepted; delete a file to accept its request.

    Raises:
        ValueError: a file there is not a request; it is renamed to `*.refused`.
    """
    for path in sorted(layout.requests.glob("*.json")):
        try:
            fields = json.loads(path.read_text())
            request = Request(
                action=Action(fields["action"]), run=str(fields["run"]),
                references=tuple(fields["references"]), reason=str(fields["reason"]),
            )  # fmt: skip
        except (ValueError, KeyError, TypeError) as exc:
            path.replace(path.with_suffix(".refused"))
            raise ValueError(f"{path} is not a request, and is ignored: {exc!r}") from exc
        yield path, request
