"""The file of a stream's updates, whatever their mode."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from bluesky_em.update_modes import UpdateDeclaration, UpdateMode

from ._accumulate import AccumulateFile
from ._replace import ReplaceFile
from ._slices import SlicesFile
from ._update import Held, Update


class UpdateFile(Protocol):
    """What every mode's file does; one writer at a time, any number of readers."""

    def write(self, update: Update, values: np.ndarray) -> None:
        """Apply an update; again: changes nothing. Refuses, and never cuts, what does not fit."""
        ...

    def flush(self) -> None:
        """Make what was written visible to readers and safe against kill and power cut."""
        ...

    def find(self, number: int) -> Update | None:
        """Give what is known of an update that came, with the place it went to."""
        ...

    def verify(self, number: int) -> Held:
        """Tell from flushed bytes how much of an update is in the file."""
        ...

    def holds(self, update: Update) -> bool:
        """Tell whether an update is safe here, flushed: intact, superseded or summed."""
        ...

    def close(self) -> None:
        """Close it for good. Closing twice is harmless."""
        ...


def open_updates(path: Path, declared: UpdateDeclaration, owner: str) -> UpdateFile:
    """Open the file of a stream's updates for writing; one that was torn is repaired.

    Args:
        path: made, with its folders, if absent.
        declared: how the updates become one array.
        owner: whose they are, e.g. `<run>/<stream>/<detector>`.

    Raises:
        FrameMismatch: the file is there, but of another owner or declared otherwise.
        OSError: it cannot be opened, or is damaged.
    """
    match declared.mode:
        case UpdateMode.REPLACE:
            return ReplaceFile(path, declared, owner)
        case UpdateMode.ACCUMULATE:
            return AccumulateFile(path, declared, owner)
        case UpdateMode.ADD_SLICE:
            return SlicesFile(path, declared, owner)
