"""Gatan devices: the EELS spectrometer, and the dark-field detector that flies with it."""

from __future__ import annotations

from .errors import require

require("bluesky", "ophyd_async", "Pyro5")

from typing import Any

from ophyd_async.core import PathProvider, StandardReadableFormat, soft_signal_rw

from .detector import RefDetector, server_signal_rw

__all__ = ["Spectrometer", "DarkField"]


class Spectrometer(RefDetector):
    """A Gatan imaging filter in EELS mode: each trigger exposes one spectrum, shape `(energy,)`.

    Args:
        uri: the acquisition server on the Gatan PC, `PYRO:eels_server@gatan-pc:9091`.
        path_provider: a Storage's `path_provider`.
        name: e.g. `eels`; it is in every reference.
    """

    DIMS = ("energy",)
    LIVETIME = "exposure"
    SUMMARY = {**RefDetector.SUMMARY, "zero_loss": ("eV", 2)}

    def __init__(self, uri: str, *, path_provider: PathProvider, name: str = ""):
        with self.add_children_as_readables(StandardReadableFormat.CONFIG_SIGNAL):
            self.exposure = soft_signal_rw(float, 0.1, units="s", precision=6)
            """of one frame, in s: 1e-6 to 5"""
            self.frames = soft_signal_rw(int, 1)
            """frames summed into one spectrum"""
            self.energy_offset = server_signal_rw(
                float, uri, "energy_offset", units="eV", precision=2
            )
            """energy loss that the filter is set to, in eV"""
            self.dispersion = server_signal_rw(
                float, uri, "dispersion", units="eV/channel", precision=3
            )
            self.aperture = server_signal_rw(str, uri, "aperture")
            """label of the entrance aperture, e.g. `5 mm`; settable where the spectrometer can"""
        super().__init__(uri, "eels", path_provider=path_provider, name=name)

    async def _options(self) -> dict[str, Any]:
        return {
            "exposure": float(await self.exposure.get_value()),
            "frames": int(await self.frames.get_value()),
        }

    def _duration(self, options: dict[str, Any]) -> float:
        return options["exposure"] * options["frames"]


class DarkField(RefDetector):
    """The annular dark-field detector: its counts at each point of a map, shape `()`, `<f4`.

    It cannot be triggered. Prepare it with the same `MapInfo` as the spectrometer of its server, as
    `plan_stubs.fly([eels, adf], ...)` does; the spectrometer sets the pace.

    Args:
        uri: the acquisition server on the Gatan PC, `PYRO:eels_server@gatan-pc:9091`.
        path_provider: a Storage's `path_provider`.
        name: e.g. `adf`; it is in every reference.
    """

    LIVETIME = "dwell"
    SUMMARY = {}

    def __init__(self, uri: str, *, path_provider: PathProvider, name: str = ""):
        super().__init__(uri, "adf", path_provider=path_provider, name=name)

    async def _options(self) -> dict[str, Any]:
        return {}

    def _duration(self, options: dict[str, Any]) -> float:
        return options.get("dwell", 0.0)
