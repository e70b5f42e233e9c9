"""HyperSpy's Zarr files.

Why RosettaSciIO does not write them: it needs zarr 2 for that, and Tiled needs zarr 3. The files
are the same (Zarr format 2, HyperSpy's layout 3.3), and both zarr versions read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dask.array as da
import zarr

from ._selection import Selection
from ._signal import signal

_LAYOUT_VERSION = "3.3"
"""of HyperSpy's files"""


def write_zspy(selection: Selection, path: Path) -> None:
    """Write one signal, as a folder."""
    content = signal(selection)
    root = zarr.open_group(path, mode="w", zarr_format=2)
    root.attrs.update(file_format="ZSpy", file_format_version=_LAYOUT_VERSION)
    group = root.create_group(f"Experiments/{content['metadata']['General']['title']}")
    group.attrs.update(content["package_info"])
    for index, axis in enumerate(content["axes"]):
        _add(group, f"axis-{index}", axis)
    for name in ("metadata", "original_metadata", "learning_results", "attributes"):
        _add(group, name, content[name])
    data = da.asarray(content["data"])
    pixels = group.create_array("data", shape=data.shape, dtype=data.dtype, chunks=data.chunksize)
    da.store(data, pixels, lock=False)


def _add(parent: zarr.Group, name: str, values: Mapping[str, Any]) -> None:
    group = parent.create_group(name)
    for key, value in values.items():
        if isinstance(value, Mapping):
            _add(group, key, value)
        elif hasattr(value, "dtype"):
            group.create_array(key, data=value)
        else:
            group.attrs[key] = value
