"""What to say of a frame that was stored, and became part of something else."""

from __future__ import annotations

from bluesky_em.update_modes import UpdateMode

_WORDS = {
    UpdateMode.ACCUMULATE: "was added up with others, and only their sum is kept: it is",
    UpdateMode.REPLACE: "has been replaced by newer frames, as its flight was to do; the newest is",
    UpdateMode.ADD_SLICE: "has been written over by a newer frame; the array as it is now is",
}


def superseded(reference: str, mode: str, stream: str) -> LookupError:
    """Compose the error of opening a frame that has no values of its own any more."""
    run, _, rest = reference.partition("/")
    detector = rest.rpartition("/")[0]
    return LookupError(
        f"{reference} {_WORDS[UpdateMode(mode)]} "
        f"`data.catalog[{run!r}][{f'{stream}/{detector}'!r}]`"
    )
