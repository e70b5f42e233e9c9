"""What a person asks of the writer, left in the storage folder for whichever writer runs next.

Files, because only the writer writes the ledger, and because a request must survive both its
asker and a writer that is not there yet.
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

from .atomic import write_whole
from .layout import Layout
from .ledger import Ledger


class Action(StrEnum):
    """What can be asked for."""

    RETRY = "retry"
    """Try failed frames again; bring the run to Tiled anew."""
    GIVE_UP = "give up"
    """Call frames failed that wait for a server which will not come back."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request, for one run."""

    action: Action
    run: str
    references: tuple[str, ...] = ()
    """which of its frames; empty: all that can be"""
    reason: str = ""
    """of giving up, in somebody's words"""


def ask(layout: Layout, request: Request) -> Path:
    """Leave a request; the file given is gone once it has been heard."""
    layout.requests.mkdir(parents=True, exist_ok=True)
    path = layout.requests / f"{uuid.uuid4()}.json"
    write_whole(path, json.dumps(asdict(request)))
    return path


def ask_for(
    layout: Layout, ledger: Ledger, action: Action, what: Iterable[str], reason: str = ""
) -> list[Path]:
    """Leave requests for references and runs, one for each run.

    Raises:
        UnknownReference: there is no such reference or run in this folder.
    """
    chosen: dict[str, list[str]] = {}
    for name in what:
        entry = ledger.block(name)  # of a fly scan, frames fail and are fetched by blocks
        if entry is None and not layout.journal_of(name).exists():
            raise UnknownReference(
                f"{name!r} is neither a reference nor the uid of a run in {layout.root}; "
                "`bluesky-em status` shows what has failed"
            )
        references = chosen.setdefault(entry.frame.run if entry else name, [])
        references += [entry.frame.reference] if entry else []
    return [
        ask(layout, Request(action=action, run=run, references=tuple(references), reason=reason))
        for run, references in chosen.items()
    ]


def heard(paths: Iterable[Path], timeout: float) -> bool:
    """Wait until a writer has heard requests; tell whether it has, within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while any(path.exists() for path in paths):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def pending(layout: Layout) -> Iterator[tuple[Path, Request]]:
    """Give the requests that nobody has heard yet; delete the file to say that you have.

    Raises:
        ValueError: somebody else has put a file there; it is moved away.
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
            raise ValueError(f"{path} is no request, and is ignored: {exc!r}") from exc
        yield path, request
