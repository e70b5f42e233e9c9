"""The error of opening a frame whose own values no longer exist."""

from __future__ import annotations

from bluesky_em.reference import Reference
from bluesky_em.update_modes import UpdateMode

_WORDS = {
    UpdateMode.ACCUMULATE: "was added up with others, and only their sum is kept: see",
    UpdateMode.REPLACE: "has been replaced by newer frames, as its fly scan declared: see",
    UpdateMode.ADD_SLICE: "has been overwritten by a newer frame; the present array: see",
}


def superseded(reference: str, mode: str, stream: str) -> LookupError:
    """Return the error, which says where the frame's array is."""
    frame = Reference.parse(reference)
    return LookupError(
        f"{reference} {_WORDS[UpdateMode(mode)]} "
        f"`data.catalog[{frame.run!r}][{f'{stream}/{frame.detector}'!r}]`"
    )
