"""Thermo Fisher devices: microscope optics, specimen stage, scanned and camera images."""

from __future__ import annotations

from .errors import require

require("bluesky", "ophyd_async", "Pyro5")

import asyncio
import logging
import math
from functools import cached_property
from typing import Any

import numpy as np
from ophyd_async.core import (
    Array1D,
    AsyncStatus,
    InstantMovableMock,
    MovableLogic,
    PathProvider,
    SignalRW,
    StandardMovable,
    StandardReadable,
    StandardReadableFormat,
    TimeoutCalculator,
    default_mock_class,
    set_mock_value,
    soft_signal_rw,
)

from .acquisition.client import SETTLE_TIMEOUT, hold_fly_scans
from .detector import RefDetector, ServerSignal, server_signal_r, server_signal_rw

__all__ = ["Microscope", "Stage", "ScanImage", "CameraImage"]

logger = logging.getLogger(__name__)


class Blanker(SignalRW[bool]):
    """The beam blanker: True blanks the beam, as every pause of a plan that has used it does."""

    def __init__(self, uri: str):
        super().__init__(ServerSignal(bool, uri, "beam_blanked"))
        self._was_blanked = True

    async def pause(self) -> None:
        """Blank the beam: a plan may pause for hours, and the specimen sees the dose.

        Never raises: a pause that failed would end the run without its clean-up.
        """
        await hold_fly_scans()
        try:
            self._was_blanked = await self.get_value()
            await self.set(True)
        except Exception as exc:
            logger.error("the beam could NOT be blanked for the pause: %s. Blank it by hand", exc)

    async def resume(self) -> None:
        """Restore the state before the pause."""
        await self.set(self._was_blanked)

    @AsyncStatus.wrap
    async def stage(self) -> None:
        """Cache nothing: the blanker is read from the hardware."""

    @AsyncStatus.wrap
    async def unstage(self) -> None:
        """Do nothing: nothing was cached."""


class Microscope(StandardReadable):
    """Beam, blanker and lenses of a Thermo Fisher microscope, each a signal of its own.

    Reading it reads all of them from the hardware (about 6 ms each). The high tension can be
    read only: no plan may change it.

    Args:
        uri: the acquisition server on the microscope PC, `PYRO:tem_server@tem-pc:9095`.
        name: e.g. `microscope`.
    """

    def __init__(self, uri: str, name: str = ""):
        with self.add_children_as_readables():
            self.beam_x = server_signal_rw(float, uri, "beam_x", precision=4)
            """position of the paused beam, as a fraction of the scan from its left: 0 to 1"""
            self.beam_y = server_signal_rw(float, uri, "beam_y", precision=4)
            """the same from the top: 0 to 1"""
            self.beam_blanked = Blanker(uri)
            self.field_of_view = server_signal_rw(float, uri, "field_of_view", units="m")
            """width of the scan, in m"""
            self.scan_rotation = server_signal_rw(float, uri, "scan_rotation", units="rad")
            self.defocus = server_signal_rw(float, uri, "defocus", units="m")
            self.camera_length = server_signal_rw(float, uri, "camera_length", units="m")
            self.convergence_angle = server_signal_r(float, uri, "convergence_angle", units="rad")
            self.high_tension = server_signal_r(float, uri, "high_tension", units="V")
            self.optical_mode = server_signal_r(str, uri, "optical_mode")
            """`Stem` or `Tem`"""
            self.column_valves = server_signal_r(str, uri, "column_valves")
            """`Opened` or `Closed`"""
            self.vacuum_state = server_signal_r(str, uri, "vacuum_state")
            """`Ready` when the valves may be opened"""
        super().__init__(name=name)


class _UnlimitedMock(InstantMovableMock):
    """In mock mode an axis reaches any position at once."""

    async def connect(self, device: StandardMovable) -> None:
        await super().connect(device)
        assert isinstance(device, StageAxis)
        set_mock_value(device.low_limit, -math.inf)
        set_mock_value(device.high_limit, math.inf)


@default_mock_class(_UnlimitedMock)
class StageAxis(StandardMovable[float], StandardReadable):
    """One axis of the stage; a move is done when the stage has arrived.

    A position outside the microscope's own limits is refused before anything moves. The moves
    are AutoScript's safe ones, which set the tilt to zero first where it could touch the pole.
    """

    def __init__(self, uri: str, axis: str, units: str, name: str = ""):
        with self.add_children_as_readables():
            self.readback = server_signal_r(float, uri, axis, units=units)
        self.setpoint = server_signal_rw(float, uri, axis, units=units)
        self.low_limit = server_signal_r(float, uri, f"{axis}.low", units=units)
        self.high_limit = server_signal_r(float, uri, f"{axis}.high", units=units)
        super().__init__(name=name)

    @cached_property
    def movable_logic(self) -> MovableLogic[float]:
        """Moves that check the limits first."""
        return _SafeMove(self)


class _SafeMove(MovableLogic[float]):
    def __init__(self, axis: StageAxis):
        super().__init__(setpoint=axis.setpoint, readback=axis.readback)
        self._axis = axis

    async def check_move(self, new_position: float) -> None:
        """Refuse a position outside the limits.

        Raises:
            ValueError: it is outside; the message has the limits.
        """
        low, high = await asyncio.gather(
            self._axis.low_limit.get_value(), self._axis.high_limit.get_value()
        )
        if not low <= new_position <= high:
            raise ValueError(
                f"{self._axis.name} cannot go to {new_position}: the microscope allows "
                f"{low} to {high}"
            )

    async def move(self, new_position: float, timeout: TimeoutCalculator) -> None:
        """Move and wait for arrival."""
        await self.setpoint.set(float(new_position), timeout=timeout() or SETTLE_TIMEOUT)


class Stage(StandardReadable):
    """The specimen stage: `x`, `y`, `z` in m; `alpha`, `beta` in rad.

    Args:
        uri: the acquisition server on the microscope PC, `PYRO:tem_server@tem-pc:9095`.
        name: e.g. `stage`.
    """

    def __init__(self, uri: str, name: str = ""):
        with self.add_children_as_readables():
            self.x = StageAxis(uri, "stage_x", "m")
            self.y = StageAxis(uri, "stage_y", "m")
            self.z = StageAxis(uri, "stage_z", "m")
            self.alpha = StageAxis(uri, "stage_alpha", "rad")
            self.beta = StageAxis(uri, "stage_beta", "rad")
        super().__init__(name=name)


WHOLE_SCAN = np.array([0.0, 0.0, 1.0, 1.0])


class ScanImage(RefDetector):
    """A STEM image: each trigger scans one frame, shape `(y, x)`, dtype `<u2`, axes in m.

    The beam is unblanked for the scan and left as it was found.

    Args:
        uri: the acquisition server on the microscope PC, `PYRO:tem_server@tem-pc:9095`.
        path_provider: a Storage's `path_provider`.
        name: e.g. `haadf`; it is in every reference.
    """

    DIMS = ("y", "x")

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


class CameraImage(RefDetector):
    """A camera frame: each trigger exposes one, shape `(y, x)`, dtype `<u2`.

    The beam is unblanked for the exposure and left as it was found.

    Args:
        uri: the acquisition server on the microscope PC, `PYRO:tem_server@tem-pc:9095`.
        path_provider: a Storage's `path_provider`.
        name: e.g. `ceta`; it is in every reference.
    """

    DIMS = ("y", "x")
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
