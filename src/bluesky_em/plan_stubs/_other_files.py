"""The folders into which detectors of other packages will write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

_CLASSIC = ("read_path_template", "write_path_template", "save_path")
"""of ophyd's file plugins, the reader's path first, and of its simulated detectors"""


def folders(device: Any) -> Iterator[Path]:
    """Yield the folders that a device names for its files; none if it does not say.

    ophyd's file plugins have templates, in which a date may follow the folder; ophyd-async's
    detectors have data logics with a path provider, which is asked for one path.
    """
    parts = [device]
    if hasattr(device, "walk_subdevices"):
        parts += [part for _, part in device.walk_subdevices(include_lazy=True)]
    for part in parts:
        found = next((p for name in _CLASSIC if (p := getattr(part, name, None))), None)
        if found is not None:
            yield Path(str(found).partition("%")[0])
    for logic in getattr(device, "_data_logics", ()):
        with suppress(AttributeError):  # it writes no files
            yield Path(logic.path_provider(device.name).directory_path)
