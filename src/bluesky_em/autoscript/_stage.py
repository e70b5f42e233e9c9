"""The specimen stage as an ophyd-async device."""

from __future__ import annotations

import asyncio
import math
from functools import cached_property

from ophyd_async.core import (
    InstantMovableMock,
    MovableLogic,
    StandardMovable,
    StandardReadable,
    TimeoutCalculator,
    default_mock_class,
    set_mock_value,
)

from ..signals import SETTLING, server_signal_r, server_signal_rw


class _UnlimitedMock(InstantMovableMock):
    """In mock mode an axis arrives at once, wherever that is."""

    async def connect(self, device: StandardMovable) -> None:
        await super().connect(device)
        assert isinstance(device, StageAxis)
        set_mock_value(device.low_limit, -math.inf)
        set_mock_value(device.high_limit, math.inf)


@default_mock_class(_UnlimitedMock)
class StageAxis(StandardMovable[float], StandardReadable):
    """One axis of the stage; done when the stage has arrived.

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
        """How it moves."""
        return _SafeMove(self)


class _SafeMove(MovableLogic[float]):
    def __init__(self, axis: StageAxis):
        super().__init__(setpoint=axis.setpoint, readback=axis.readback)
        self._axis = axis

    async def check_move(self, new_position: float) -> None:
        """Refuse a position outside the limits."""
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
        await self.setpoint.set(float(new_position), timeout=timeout() or SETTLING)


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
