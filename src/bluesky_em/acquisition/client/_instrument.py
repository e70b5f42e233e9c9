"""InstrumentClient: what devices ask of an acquisition server, one typed method per call."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from typing import Any

from ..instrument_pc.fly_scan import FlyOrder
from ._answers import FrameHeader, FrameLayout, Progress
from ._client import DEFAULT_TIMEOUT, AsyncClient, Channel

logger = logging.getLogger(__name__)

EXPOSE_GRACE = 30.0  # seconds that a server may take beyond the exposure itself
SETTLE_TIMEOUT = 60.0  # seconds; the longest a setting may take (stage moves, filter settling)
HOLD_TIMEOUT = 2.0  # seconds that a server may take to hold its fly scan
RESUME_DELAY = 1.0  # seconds after a resume in which all other devices must have resumed, too


class InstrumentClient:
    """The connection of all devices of this process to one acquisition server.

    Devices share it (`client_for`), since an instrument has one fly scan, and it is held and
    resumed as a whole. Every method raises `ServerUnreachable` if the server does not answer, or
    else what the server raised.

    Args:
        uri: e.g. `PYRO:eels_server@gatan-pc:9091`.
    """

    def __init__(self, uri: str):
        self.uri = uri
        self._client = AsyncClient(uri)
        self._flying: set[str] = set()
        self._resume_at: float | None = None
        """when a fly scan that is held resumes (`time.monotonic`), `math.inf` until the plan
        resumes; None if it is not held"""

    async def identity(self, *, timeout: float = DEFAULT_TIMEOUT) -> dict[str, Any]:
        """Return vendor, name and version of the instrument."""
        return await self._call("identity", timeout=timeout)

    # -- settings --

    async def settings(self) -> dict[str, dict[str, Any]]:
        """Return units, dtype, writable, limits and choices of every setting, by name."""
        return await self._call("settings")

    async def get(self, name: str, *, timeout: float = DEFAULT_TIMEOUT) -> Any:
        """Read a setting from the hardware, or one of its limits, e.g. `stage_x.low`."""
        return await self._call("get", name, timeout=timeout)

    async def set(self, name: str, value: Any) -> Any:
        """Change a setting, wait until it has settled, and return what the hardware reads back."""
        return await self._call("set", name, value, timeout=SETTLE_TIMEOUT)

    # -- single frames --

    async def layout(self, detector: str, options: dict[str, Any]) -> FrameLayout:
        """Return shape and dtype of the frame that `expose` would take."""
        shape, dtype = await self._call("layout", detector, options)
        return shape, dtype

    async def preflight(self, detector: str, options: dict[str, Any]) -> int:
        """Return the bytes of the frame that `expose` would take.

        Raises:
            ValueError: it would never fit into the spool.
        """
        return await self._call("preflight", detector, options)

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
        """Take one frame; done when it is in the spool.

        Args:
            reference: under which the frame will be in the spool.
            detector: the driver's name, e.g. `eels`.
            options: of the exposure.
            thumbnail: whether its summary is to have one.
            again: replace the frame of an interrupted exposure of the same reference.
            duration: s that the exposure should take.

        Raises:
            ValueError: the spool holds a frame of this reference.
            OSError: ENOSPC: the spool has no room, nothing was exposed. EIO: the exposed frame
                could not be written; `keep` tries again.
        """
        return await self._call(
            "expose", reference, detector, options, thumbnail, again,
            channel="exposure", timeout=duration + EXPOSE_GRACE,
        )  # fmt: skip

    async def keep(self, reference: str) -> FrameHeader:
        """Write the frame again that `expose` could not write; answers and raises as that does."""
        return await self._call("keep", reference, channel="exposure", timeout=EXPOSE_GRACE)

    async def abort(self) -> None:
        """End a running exposure or fly scan as soon as the vendor allows."""
        self._flying.clear()
        self._resume_at = None
        await self._call("abort", channel="abort")

    # -- fly scans --

    async def arm(self, detector: str, order: FlyOrder) -> None:
        """Add a detector to the next fly scan.

        Raises:
            ValueError: the order cannot be carried out.
            RuntimeError: a fly scan is running.
        """
        await self._call("arm", detector, order._asdict())

    async def kickoff(self, detector: str) -> None:
        """Begin the fly scan once this has been called for each armed detector."""
        self._flying.add(detector)  # from now on a pause must hold it
        try:
            await self._call("kickoff", detector)
        except BaseException:
            self._flying.discard(detector)
            raise

    async def progress(self, detector: str) -> Progress:
        """Return how many frames of the fly scan a detector has in the spool."""
        progress: Progress = await self._call("progress", detector)
        if progress["done"]:
            self._flying.discard(detector)
            if not self._flying:
                self._resume_at = None
        return progress

    async def hold(self) -> None:
        """Pause the fly scan, if one is running, after the current row, which is taken again.

        Never raises, and waits 2 s at most: a pause that failed would end the run without its
        clean-up, and the beam would stay on.
        """
        if not self._flying:
            return
        self._resume_at = math.inf
        try:
            async with asyncio.timeout(HOLD_TIMEOUT):  # connecting included
                await self._call("hold", channel="abort", timeout=HOLD_TIMEOUT)
        except Exception as exc:
            reason = str(exc) or f"no answer within {HOLD_TIMEOUT:g} s"
            logger.error("the fly scan of %s continues in the pause: %s", self.uri, reason)

    async def resume(self) -> None:
        """Resume the fly scan now."""
        self._resume_at = None
        await self._call("resume", channel="abort")

    def resume_soon(self) -> None:
        """Resume the fly scan when the plan continues, so that the beam is on before.

        That is at the plan's next `resume_if_held`, or 1 s from now at the next `resume_if_due`.
        """
        if self._resume_at is not None:
            self._resume_at = time.monotonic() + RESUME_DELAY

    async def resume_if_held(self) -> None:
        """Resume a fly scan that `resume_soon` was called for."""
        if self._resume_at not in (None, math.inf):
            await self.resume()

    async def resume_if_due(self) -> None:
        """Resume a fly scan that `resume_soon` was called for, 1 s ago or more."""
        if self._resume_at is not None and time.monotonic() > self._resume_at:
            await self.resume()

    def close(self) -> None:
        """Close all connections; the next call opens them again."""
        self._client.close()

    async def _call(
        self,
        method: str,
        *args: Any,
        channel: Channel = "settings",
        timeout: float = DEFAULT_TIMEOUT,
    ) -> Any:
        return await self._client.call(method, *args, channel=channel, timeout=timeout)
