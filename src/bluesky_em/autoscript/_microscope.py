"""The microscope's optics as an ophyd-async device."""

from __future__ import annotations

import logging

from ophyd_async.core import AsyncStatus, SignalRW, StandardReadable

from ..flyer import hold_all
from ..signals import ServerSignal, server_signal_r, server_signal_rw

logger = logging.getLogger(__name__)


class Blanker(SignalRW[bool]):
    """Whether the beam is blanked; it is while a plan that has used it pauses."""

    def __init__(self, uri: str):
        super().__init__(ServerSignal(bool, uri, "beam_blanked"))
        self._was_blanked = True

    async def pause(self) -> None:
        """Blank the beam: a plan may pause for hours, and the specimen sees the dose.

        Never raises: a pause that failed would end the run without its clean-up.
        """
        await hold_all()
        try:
            self._was_blanked = await self.get_value()
            await self.set(True)
        except Exception as exc:
            logger.error("the beam could NOT be blanked for the pause: %s. Blank it by hand", exc)

    async def resume(self) -> None:
        """Bring back what was before the pause."""
        await self.set(self._was_blanked)

    @AsyncStatus.wrap
    async def stage(self) -> None:
        """Cache nothing: it is read from the hardware."""

    @AsyncStatus.wrap
    async def unstage(self) -> None:
        """Nothing was cached."""


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
            """where the paused beam stands, as a fraction of the scan from its left: 0 to 1"""
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
