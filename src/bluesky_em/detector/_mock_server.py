"""What answers a RefDetector in mock mode, instead of an acquisition server."""

from __future__ import annotations

from typing import Any

import numpy as np

from bluesky_em.acquisition.instrument_pc.exposure import Exposure
from bluesky_em.acquisition.instrument_pc.summary import summarise


class MockServer:
    """Takes no time, and gives always the same frame.

    Attributes:
        array: the frame of every exposure, and every point of a flight; set it to what a test
            needs.
    """

    def __init__(self) -> None:
        self.array = np.zeros((2048,), dtype="<f4")
        self._frames = 0

    async def call(
        self, method: str, *args: Any, lane: str = "settings", timeout: float = 0.0
    ) -> Any:
        """Answer what detectors ask for; do nothing else."""
        shape, dtype = list(self.array.shape), self.array.dtype.str
        if method == "layout":
            return [shape, dtype]
        if method == "preflight":
            return self.array.nbytes
        if method == "arm":
            self._frames = args[1]["frames"]
        if method == "progress":
            header = self._header("", [self._frames, *shape])
            return {
                "captured": self._frames, "block": self._frames, "done": True, "error": "",
                "waiting": "", "header": header,
            }  # fmt: skip
        header = self._header(str(args[0]) if args else "", shape)
        if method == "expose":
            exposure = Exposure(self.array, header["axes"], {}, 0.0, 0.0)
            header["summary"] = summarise(exposure, thumbnail=args[3])
        return header

    def _header(self, reference: str, shape: list[int]) -> dict[str, Any]:
        axes = [
            {"name": f"dim_{i}", "units": "", "offset": 0.0, "scale": 1.0, "size": size}
            for i, size in enumerate(self.array.shape)
        ]
        return {
            "reference": reference, "shape": shape, "dtype": self.array.dtype.str, "axes": axes,
            "nbytes": self.array.nbytes, "checksum": 0, "metadata": {},
            "started": 0.0, "ended": 0.0,
        }  # fmt: skip
