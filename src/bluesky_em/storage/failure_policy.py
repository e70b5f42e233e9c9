"""The choices a user has for plans when storage has failed."""

from __future__ import annotations

from enum import StrEnum


class OnFailure(StrEnum):
    """What a plan does at its next checkpoint once storage has failed."""

    CONTINUE = "continue"
    """Nothing; a warning is logged."""
    PAUSE = "pause"
    """It pauses, and the user may resume it."""
    ABORT = "abort"
    """It ends with `StorageFailed`, after its clean-up."""

    @classmethod
    def of(cls, choice: OnFailure | str) -> OnFailure:
        """Return the choice with this name.

        Raises:
            ValueError: there is none.
        """
        if choice not in list(cls):
            raise ValueError(f"on_failure is 'continue', 'pause' or 'abort', not {choice!r}")
        return cls(choice)
