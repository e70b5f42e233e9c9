"""The folders whose files Tiled may read: that of our data, and those declared for others.

What is declared stays with the storage folder, whichever process starts the Tiled server.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from .atomic import write_whole
from .layout import Layout
from .tiled.file_uri import check_folder

FILE = "readable-folders.json"
"""In the storage folder: a list of paths."""


def declare(layout: Layout, folders: Iterable[str | Path]) -> None:
    """Write which folders Tiled may read beside the data folder, in place of earlier ones.

    Raises:
        NotADirectoryError: one of them is no folder.
        ValueError: the path of one has characters that Tiled cannot read.
    """
    found = [_resolved(folder) for folder in folders]
    if found != declared(layout):
        write_whole(layout.root / FILE, json.dumps([str(folder) for folder in found], indent=1))


def declared(layout: Layout) -> Sequence[Path]:
    """Return the folders that are declared."""
    try:
        return [Path(folder) for folder in json.loads((layout.root / FILE).read_text())]
    except (FileNotFoundError, ValueError):  # none, or emptied by a power cut
        return []


def why_unreadable(layout: Layout, path: Path) -> str:
    """Return why Tiled may not read a file or folder, and what to do; empty if it may."""
    place = path.expanduser().absolute()
    if any(place.is_relative_to(folder) for folder in (layout.data, *declared(layout))):
        return ""
    folder = place.parent if place.suffix else place
    return (
        f"it is outside the folders that Tiled may read, {layout.data} and those that are "
        f"declared: open the Storage with readable=[{str(folder)!r}]. A Tiled server of your own "
        "needs that folder in its `readable_storage`, too"
    )


def _resolved(folder: str | Path) -> Path:
    path = Path(folder).expanduser().resolve()
    if not path.is_dir():
        raise NotADirectoryError(
            f"readable: {path} is no folder here: create it, or give the folder in which the "
            "other detector's files are"
        )
    check_folder(path)
    return path
