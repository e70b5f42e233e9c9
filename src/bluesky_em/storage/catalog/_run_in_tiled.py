"""A look-up, by a few requests, of whether Tiled has a complete run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from bluesky_em.files import journal_reader, manifest
from bluesky_em.files.layout import Layout
from bluesky_em.files.tiled import results_container
from bluesky_em.files.tiled.health import check_health
from bluesky_em.files.tiled.row_map import KEY

from ._event_table import summary_of


def is_in_tiled(client: Any, layout: Layout, journal: Path) -> bool:
    """Check whether Tiled has a run with its manifest, and its tables the rows listed there.

    Args:
        client: the catalog.
        layout: the storage folder.
        journal: of a run that is complete; one without documents has nothing to be in Tiled.

    Raises:
        httpx.HTTPError: Tiled does not answer.
        ValueError: the journal is damaged.
    """
    head = journal_reader.head(journal)
    start = next((document for name, document in head if name == "start"), None)
    if start is None:
        return True
    try:
        run = results_container.find_run(client, start["uid"])
    except KeyError:
        return False
    account = run.metadata.get(KEY, {})
    own = manifest.read(layout.folder_of(start["uid"], start["time"])) or account
    if not account.get("complete") or account.get("tables") != own.get("tables"):
        return False
    if bool(run.metadata.get("stop")) == account.get("abandoned", False):
        return False
    return all(_has_rows(run, name, rows) for name, rows in account.get("tables", {}).items())


def _has_rows(run: Any, name: str, rows: dict[str, int]) -> bool:
    stream, _, table = name.partition("/")
    try:
        return summary_of(run[stream].base[table]) == rows
    except KeyError:
        return False
    except httpx.HTTPStatusError:  # its rows cannot be read
        check_health(run)
        return False
