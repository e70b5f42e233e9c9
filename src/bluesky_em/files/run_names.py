"""Runs that a user names by the beginning of their uid."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from itertools import islice
from pathlib import Path

from bluesky_em.errors import UnknownReference

from .journal_reader import JournalReader
from .layout import Layout

UID_LENGTH = 36
"""Characters of a uid that bluesky gives; one of this length is complete."""


def full_uid(layout: Layout, beginning: str) -> str:
    """Return the uid of the run in a storage folder that begins so; `beginning` if none does.

    Raises:
        UnknownReference: several do.
        OSError: the journal cannot be read.
    """
    if not beginning or layout.journal_of(beginning).exists():
        return beginning
    journals = (path for path in layout.journals() if path.stem.startswith(beginning))
    return the_only(beginning, map(_uid_in, journals), str(layout.root)) or beginning


def find(layout: Layout, beginning: str) -> str:
    """Return the uid of the run in a storage folder that begins so.

    Raises:
        UnknownReference: none does, or several do.
        OSError: the journal cannot be read.
    """
    uid = full_uid(layout, beginning)
    if not layout.journal_of(uid).exists():
        raise unknown(layout, beginning)
    return uid


def unknown(layout: Layout, run: str) -> UnknownReference:
    """Return the error of a run that is not in a storage folder."""
    return UnknownReference(f"no run {run!r} in {layout.root}: {newest(layout)}")


def the_only(beginning: str, uids: Iterable[str], place: str) -> str | None:
    """Return the only one of the uids that begin so; None if there is none.

    Args:
        beginning: as a user has given it.
        uids: those that begin so.
        place: where they are, for the message.

    Raises:
        UnknownReference: there are several.
    """
    found = list(islice(uids, 2))
    if len(found) > 1:
        raise UnknownReference(
            f"several runs in {place} begin with {beginning!r}, e.g. {found[0]} and {found[1]}: "
            "give more of the uid"
        )
    return found[0] if found else None


def newest(layout: Layout) -> str:
    """Return what to give as a run in a storage folder, for an error's message."""
    journal = max(layout.journals(), key=layout.last_change, default=None)
    if journal is None:
        return "no run has been stored there yet"
    return f"give a run's uid, or the beginning of one; the newest is {_uid_in(journal)}"


def _uid_in(journal: Path) -> str:
    """Return the uid in a journal; its name is another if the uid cannot be a file's name."""
    with closing(JournalReader(journal)) as reader:
        return next((document["uid"] for _, document in reader), journal.stem)
