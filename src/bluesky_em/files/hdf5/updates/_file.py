"""Opening the file of a stream's updates in the declared mode."""

from __future__ import annotations

from pathlib import Path

from bluesky_em.update_modes import UpdateDeclaration, UpdateMode

from ._accumulate import AccumulateFile
from ._mode_file import UpdateFile
from ._replace import ReplaceFile
from ._slices import SlicesFile

_FILES: dict[UpdateMode, type[UpdateFile]] = {
    UpdateMode.ADD_SLICE: SlicesFile,
    UpdateMode.REPLACE: ReplaceFile,
    UpdateMode.ACCUMULATE: AccumulateFile,
}


def open_updates(path: Path, declared: UpdateDeclaration, owner: str) -> UpdateFile:
    """Open the file of a stream's updates for writing; repair it if its writer was killed.

    Args:
        path: the file; created, with its folders, if absent.
        declared: how the updates become one array.
        owner: the stream of the updates, `<run>/<stream>/<detector>`.

    Raises:
        FrameMismatch: the file exists, but has another owner or declaration.
        OSError: it cannot be opened, or is damaged.
    """
    return _FILES[declared.mode](path, declared, owner)
