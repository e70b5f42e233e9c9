"""The file formats, and the complete writing of a file."""

from __future__ import annotations

import shutil
from enum import StrEnum
from pathlib import Path

from bluesky_em.files.atomic import put_in_place

from ._csv import write_csv
from ._hspy import write_hspy
from ._nxs import write_nxs
from ._selection import Selection
from ._zspy import write_zspy


class FileFormat(StrEnum):
    """A file format of another program."""

    NXS = "nxs"
    """NeXus, with the pixels in the file"""
    HSPY = "hspy"
    """HyperSpy's, in HDF5"""
    ZSPY = "zspy"
    """HyperSpy's, in Zarr: a folder"""
    CSV = "csv"
    """one spectrum as a table of energy and counts"""

    @classmethod
    def named(cls, name: str) -> FileFormat:
        """Find a format by its name.

        Raises:
            ValueError: there is no such format; the message lists all.
        """
        try:
            return cls(name)
        except ValueError:
            raise ValueError(f"there is no format {name!r}; there are: {', '.join(cls)}") from None


_WRITERS = {
    FileFormat.NXS: write_nxs,
    FileFormat.HSPY: write_hspy,
    FileFormat.ZSPY: write_zspy,
    FileFormat.CSV: write_csv,
}


def write(selection: Selection, path: Path, to: FileFormat) -> None:
    """Write a file; it gets its name when it is complete.

    Raises:
        FileExistsError: a file of that name exists; it is not changed.
        FileNotFoundError: its folder does not exist.
        ValueError: the format cannot hold the selection, or its frames have different axes.
    """
    if selection.refusal:
        raise ValueError(selection.refusal)
    if path.exists():
        raise FileExistsError(f"{path} exists already and is not changed: give another --out")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"--out {path}: the folder {path.absolute().parent} does not exist")
    part = path.with_name(f"{path.name}.part")
    try:
        _WRITERS[to](selection, part)
        put_in_place(part, path, sync=part.is_file())  # not the many files of a Zarr folder
    finally:
        shutil.rmtree(part) if part.is_dir() else part.unlink(missing_ok=True)
