"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bluesky_em.files.layout import Layout

DEFAULT_STORAGE = Path("~/em-data")
StorageFolder = Annotated[Path, typer.Option("--storage", help="The storage folder.")]
What = Annotated[list[str], typer.Argument(help="References, or uids of runs.")]
Tiled = Annotated[str | None, typer.Option(help="Address of a Tiled server; default: embedded.")]
Replay = Annotated[
    Path | None, typer.Option(exists=True, dir_okay=False, help="Serve this .dm3/.dm4 spectrum.")
]


def layout_of(storage: Path) -> Layout:
    """Return the layout of an existing storage folder.

    Raises:
        FileNotFoundError: it is not a storage folder.
    """
    layout = Layout.of(storage)
    if not layout.journal.is_dir():
        raise FileNotFoundError(
            f"{layout.root} is not a storage folder: nothing was ever stored there. Use --storage"
        )
    return layout
