"""A scanned image (HAADF and its siblings) as an ophyd-async device."""

from __future__ import annotations

from typing import Any

import numpy as np
from ophyd_async.core import Array1D, PathProvider, StandardReadableFormat, soft_signal_rw

from ..detector import RefDetector

WHOLE_SCAN = np.array([0.0, 0.0, 1.0, 1.0])


class ScanImage(RefDetector):
    """A STEM image: each trigger scans one frame, shape `(y, x)`, dtype `<u2`, axes in m.

    The beam is unblanked for the scan and left as it was found.

    Args:
        uri: the acquisition server on the microscope PC, `PYRO:tem_server@tem-pc:9095`.
        path_provider: a Storage's `path_provider`.
        name: e.g. `haadf`; it is in every reference.
    """

    def __init__(self, uri: str, *, path_provider: PathProvider, name: str = ""):
        with self.add_children_as_readables(StandardReadableFormat.CONFIG_SIGNAL):
            self.detector = soft_signal_rw(str, "HAADF")
            """AutoScript's name of the scanning detector, e.g. `HAADF`, `BF`, `DF4`"""
            self.size = soft_signal_rw(int, 512, units="pixel")
            """pixels along each side: 128, 256 ... 4096"""
            self.dwell = soft_signal_rw(float, 1e-6, units="s")
            """at each pixel, in s"""
            self.region = soft_signal_rw(Array1D[np.float64], WHOLE_SCAN)
            """left, top, width, height as fractions of the whole scan"""
        super().__init__(uri, "scan_image", path_provider=path_provider, name=name)

    async def _options(self) -> dict[str, Any]:
        return {
            "detector": await self.detector.get_value(),
            "size": int(await self.size.get_value()),
            "dwell": float(await self.dwell.get_value()),
            "region": [float(edge) for edge in await self.region.get_value()],
        }

    def _duration(self, options: dict[str, Any]) -> float:
        return options["dwell"] * options["size"] ** 2
