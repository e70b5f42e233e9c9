"""MockServer: the acquisition server that a RefDetector has in mock mode."""

from __future__ import annotations

from typing import Any

import numpy as np

from bluesky_em.acquisition.client import FrameHeader, FrameLayout, InstrumentClient, Progress
from bluesky_em.acquisition.instrument_pc.exposure import Exposure
from bluesky_em.acquisition.instrument_pc.fly_scan import FlyOrder
from bluesky_em.acquisition.instrument_pc.summary import summarise


class MockServer(InstrumentClient):
    """Takes no time, and always the same frame.

    Attributes:
        array: the frame of every exposure, and every point of a fly scan; set it to what a test
            needs.
    """

    def __init__(self, uri: str):
        super().__init__(uri)
        self.array = np.zeros((2048,), dtype="<f4")
        self._frames = 0

    async def layout(self, detector: str, options: dict[str, Any]) -> FrameLayout:
        """Return the layout of `array`."""
        return list(self.array.shape), self.array.dtype.str

    async def preflight(self, detector: str, options: dict[str, Any]) -> int:
        """Return the bytes of `array`."""
        return self.array.nbytes

    async def expose(
        self,
        reference: str,
        detector: str,
        options: dict[str, Any],
        *,
        thumbnail: bool = False,
        again: bool = False,
        duration: float = 0.0,
    ) -> FrameHeader:
        """Return the header of `array`."""
        header = self._header(reference, list(self.array.shape))
        exposure = Exposure(self.array, header["axes"], {}, 0.0, 0.0)
        return {**header, "summary": summarise(exposure, thumbnail=thumbnail)}

    async def arm(self, detector: str, order: FlyOrder) -> None:
        """Remember the number of frames."""
        self._frames = order.frames

    async def progress(self, detector: str) -> Progress:
        """Return that all frames are captured."""
        return {
            "captured": self._frames, "block": self._frames, "done": True, "error": "",
            "waiting": "", "header": self._header("", [self._frames, *self.array.shape]),
        }  # fmt: skip

    async def _call(self, method: str, *args: Any, **options: Any) -> None:
        """Do nothing: there is no instrument."""

    def _header(self, reference: str, shape: list[int]) -> FrameHeader:
        axes = [
            {"name": f"dim_{i}", "units": "", "offset": 0.0, "scale": 1.0, "size": size}
            for i, size in enumerate(self.array.shape)
        ]
        return {
            "reference": reference, "shape": shape, "dtype": self.array.dtype.str, "axes": axes,
            "nbytes": self.array.nbytes, "checksum": 0, "metadata": {},
            "started": 0.0, "ended": 0.0,
        }  # fmt: skip
