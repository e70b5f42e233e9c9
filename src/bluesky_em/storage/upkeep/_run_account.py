"""Check of a manifest against journal, ledger and files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py

from bluesky_em.documents import Document
from bluesky_em.files import manifest
from bluesky_em.files.event_counts import EventCounts
from bluesky_em.files.layout import Layout
from bluesky_em.files.ledger import Entry

_ONLY_KNOWN_THEN = {"versions", "master", "tables", "simplified", "unreadable", "journal"}
"""Entries that the run's end has recorded, and nothing else knows."""


def read(layout: Layout, start: Document) -> dict[str, Any] | None:
    """Return the manifest of a run; None if there is none, or it is damaged."""
    return manifest.read(layout.folder_of(start["uid"], start["time"]))


def is_journal_changed(layout: Layout, journal: Path, start: Document) -> bool:
    """Check whether a journal has other bytes than when its run was completed.

    Manifests of earlier versions do not tell.
    """
    try:
        account = read(layout, start) or {}
    except (KeyError, TypeError, ValueError):  # that is no start document
        return True
    return "journal" in account and account["journal"] != manifest.checksums(journal)


def is_master_changed(layout: Layout, account: Mapping[str, Any]) -> bool:
    """Check whether a run's master file has other bytes than when the run was completed.

    Manifests of earlier versions do not tell; then it must only be possible to open it.

    Raises:
        OSError: it is not there, or cannot be opened.
    """
    written = account.get("master", {})
    if not written.get("path"):  # it could not be written
        return False
    path = layout.root / written["path"]
    if "checksums" in written:
        found = manifest.checksums(path)
        return any(written.get(key) != value for key, value in found.items())
    with h5py.File(path, "r") if written["format"] == "nexus" else open(path, "rb"):
        return False


def untruths(
    layout: Layout,
    account: Mapping[str, Any] | None,
    documents: list[tuple[str, Document]],
    entries: list[Entry],
) -> Iterator[str]:
    """Yield in words what a manifest says that is not true.

    Args:
        layout: the storage folder.
        account: the manifest.
        documents: of the run, from its journal.
        entries: of the run, from the ledger.
    """
    start = documents[0][1]
    folder = layout.folder_of(start["uid"], start["time"])
    if account is None:
        yield f"{folder / manifest.NAME} is missing or damaged"
        return
    abandoned, events = not any(name == "stop" for name, _ in documents), EventCounts()
    for name, document in documents:
        events.add(name, document)
    counts = events.by_stream
    true = manifest.compose(
        start["uid"], entries, counts,
        abandoned=abandoned, folder=folder, journal=layout.journal_of(start["uid"]),
    )  # fmt: skip
    for key in sorted(true.keys() | account.keys() - _ONLY_KNOWN_THEN):
        if key not in _ONLY_KNOWN_THEN and account.get(key) != true.get(key):
            yield f"its manifest says {key!r} is {account.get(key)}, but it is {true.get(key)}"
