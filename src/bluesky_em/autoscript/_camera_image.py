"""A camera image as an ophyd-async device."""

from __future__ import annotations

from typing import Any

from ophyd_async.core import PathProvider, StandardReadableFormat, soft_signal_rw

from ..detector import RefDetector


class CameraImage(RefDetector):
    """A camera frame: each trigger exposes one, shape `(y, x)`, dtype `<u2`.

    The beam is unblanked for the exposure and left as it was found.

    Args:
        uri: the acquisition server on the microscope PC, `PYRO:tem_server@tem-pc:9095`.
        path_provider: a Storage's `path_provider`.
        name: e.g. `ceta`; it is in every reference.
    """

    LIVETIME = "exposure"

    def __init__(self, uri: str, *, path_provider: PathProvider, name: str = ""):
        with self.add_children_as_readables(StandardReadableFormat.CONFIG_SIGNAL):
            self.camera = soft_signal_rw(str, "BM-Ceta")
            """AutoScript's name of the camera"""
            self.size = soft_signal_rw(int, 1024, units="pixel")
            """pixels along each side"""
            self.exposure = soft_signal_rw(float, 0.1, units="s")
        super().__init__(uri, "camera_image", path_provider=path_provider, name=name)

    async def _options(self) -> dict[str, Any]:
        return {
            "camera": await self.camera.get_value(),
            "size": int(await self.size.get_value()),
            "exposure": float(await self.exposure.get_value()),
        }

    def _duration(self, options: dict[str, Any]) -> float:
        return options["exposure"]
