"""The error of a reference that its run has not handed out."""

from __future__ import annotations

from collections.abc import Iterable

from bluesky_em.errors import UnknownReference
from bluesky_em.reference import Reference


def unknown_in_run(reference: str, known: Iterable[str]) -> UnknownReference:
    """Return the error, which says what references the run has.

    Args:
        reference: the one that is not known.
        known: those of its run; the first and the last one of each detector are enough.
    """
    numbers: dict[str, set[int]] = {}
    for each in map(Reference.parse, known):
        numbers.setdefault(each.base, set()).add(each.number)
    spans = [f"{base}/{min(found)} to {max(found)}" for base, found in sorted(numbers.items())]
    has = f"it has {', '.join(spans)}" if spans else "it has no references at all"
    return UnknownReference(f"the run of {reference!r} has no such frame: {has}")
