"""A run or a reference as a user gives it, perhaps with the beginning of the uid only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bluesky_em.errors import UnknownReference
from bluesky_em.files.run_names import UID_LENGTH
from bluesky_em.reference import Reference

FindUid = Callable[[str], str]
"""Returns the uid of the run that begins so; the same text if none does."""


def full_uid(run: str, find: FindUid) -> str:
    """Return the uid of a run; a complete one is not looked up.

    Raises:
        UnknownReference: several runs begin so.
    """
    run = str(run)
    return run if len(run) >= UID_LENGTH else find(run)


def full_reference(text: str, find: FindUid) -> str:
    """Return a reference with its run's uid.

    Raises:
        UnknownReference: it is not a reference, or several runs begin so.
    """
    try:
        given = Reference.parse(text)
    except ValueError as exc:
        raise UnknownReference(str(exc)) from exc
    return str(replace(given, run=full_uid(given.run, find)))
