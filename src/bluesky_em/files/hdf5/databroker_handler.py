"""The databroker handler for `HDF5` resources of this package, registered as an entry point."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ._frames_reader import FramesReader


class FramesHandler:
    """Opens the file of a `resource`; called with the kwargs of a `datum`.

    A detector used in several streams of one run has a file for each, in one folder; the exposure
    number decides which of them has a frame.
    """

    specs = {"HDF5"}

    def __init__(self, resource_path: str, **resource_kwargs: Any):
        path = Path(resource_path)
        self._paths = [path, *sorted(path.parent.glob(f"{path.stem}.*.h5"))]

    def __call__(self, *, number: int, **datum_kwargs: Any) -> np.ndarray:
        """Read the frame that was the detector's exposure `number` in its run."""
        for path in self._paths:
            with FramesReader(path) as reader:
                try:
                    return reader.read(reader.row_of(number))
                except LookupError:
                    continue
        raise LookupError(f"no frame with number {number} in {[str(p) for p in self._paths]}")
