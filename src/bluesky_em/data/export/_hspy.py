"""HyperSpy's HDF5 files, written by RosettaSciIO."""

from __future__ import annotations

from pathlib import Path

from rsciio.hspy import file_writer

from ._selection import Selection
from ._signal import signal


def write_hspy(selection: Selection, path: Path) -> None:
    """Write one signal; data larger than memory are written block by block."""
    file_writer(path, signal(selection), show_progressbar=False)
