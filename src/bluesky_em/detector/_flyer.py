"""Flyer: the half of a RefDetector that takes many frames at the instrument's own pace.

In a fly scan there is no document per frame. The reference is the `stream_datum`: its indices say
which frames have been captured, its `stream_resource` where they wait and where they will be, and
whether they become anything but rows of one array (its parameter `update`).
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any
from weakref import WeakSet

from bluesky.protocols import StreamAsset
from ophyd_async.core import TriggerInfo, WatcherUpdate

from bluesky_em.errors import ServerUnreachable, SpoolFull
from bluesky_em.reference import Reference
from bluesky_em.update_modes import UpdateDeclaration

from . import _documents
from ._detector_run import DetectorRun
from ._trigger_info import MapInfo, UpdateInfo, check

logger = logging.getLogger(__name__)

LOOK = 0.05  # seconds between two looks how far a flight has got
HOLDING = 2.0  # seconds that the acquisition server may take to hear of a pause
RESUMED = 1.0  # seconds after a resume in which all other devices must have resumed, too
ENDING = 60.0  # seconds that the row at hand may take, when a flight is ended early

_flyers: WeakSet[Flyer] = WeakSet()


class Flyer:
    """Flies one detector.

    Args:
        server: the link to its acquisition server.
        uri: that server's address.
        detector: the driver's name for it.
    """

    def __init__(self, server: Any, uri: str, detector: str):
        _flyers.add(self)
        self._server = server
        self._uri = uri
        self._detector = detector
        self.active = False
        """whether it is this half that the detector's documents come from"""
        self.options: dict[str, Any] = {}
        """of the exposures of this flight, or the last one"""
        self.captured = 0
        """frames of this flight in the spool, as far as known here"""
        self.line: list[int] = []
        """axes that its frames have in front of those of an exposure; see `MapInfo.line`"""
        self._wanted = 0
        self._update: dict[str, Any] | None = None
        self._course: DetectorRun | None = None
        self._first = 0
        self._start = 0
        self._progress: dict[str, Any] = {}
        self._resource: dict[str, Any] | None = None
        self._sent = 0
        self._closed = False
        self._armed = self._flying = False
        self._go_on_at: float | None = None
        """when at the latest a paused flight goes on (`time.monotonic`); None: it is not paused"""

    async def arm(
        self, info: TriggerInfo, course: DetectorRun, options: dict[str, Any], duration: float
    ) -> None:
        """Get ready for a flight.

        Raises:
            ValueError: this cannot be flown; the message tells what can.
        """
        check(info, course.detector)
        declared = await self._declared(info, options)
        update = None if declared is None else declared.dump()
        course.check_update(update or {})
        line = info.line if isinstance(info, MapInfo) else []
        order = {
            "base": course.base, "first": course.next_number, "frames": info.number_of_events,
            "duration": duration, "options": options,
            "scan": info.scan if isinstance(info, MapInfo) else None,
            "entry": "block" if update is None else "line" if line else "frame",
        }  # fmt: skip
        await self._server.call("arm", self._detector, order)
        self._armed = True
        course.update, self._update, self.line = update or {}, update, line
        self._course, self._wanted, self._resource = course, info.number_of_events, None
        self._first, self._start = course.next_number, course.flown
        self.options, self.captured, self._sent = options, 0, 0
        self._progress, self._closed = {}, False
        self.active = True
        course.next_number += info.number_of_events

    async def kickoff(self) -> None:
        """Begin, or wait for the other detectors that were armed.

        Raises:
            RuntimeError: it was not prepared since the last flight.
        """
        if self._flying:
            return  # a plan that was paused begins again with what it had done
        self._flying = True  # from now on a pause must hold it
        try:
            await self._server.call("kickoff", self._detector)
        except BaseException:
            self._flying = False
            raise

    async def complete(self, patience: float) -> AsyncIterator[WatcherUpdate[int]]:
        """Watch until the last frame is in the spool.

        Raises:
            RuntimeError: the flight ended early; the message tells why.
            SpoolFull: there was no room for `patience` seconds.
        """
        assert self._course is not None, "kickoff has refused"
        name, since = self._course.detector, 0.0
        while self._flying:
            if self._go_on_at is not None and time.monotonic() > self._go_on_at:
                await self._go_on()  # the plan collects nothing meanwhile
            progress = await self.look()
            waiting = progress["waiting"]
            since = (since or time.monotonic()) if waiting else 0.0
            if waiting and time.monotonic() - since > patience:
                await self.end()
                raise SpoolFull(
                    f"{name}: its flight waited {patience:.0f} s for room, in vain: "
                    f"{waiting}. `bluesky-em status` tells what holds storage up"
                )
            yield WatcherUpdate(
                current=self.captured, initial=0, target=self._wanted, unit="frames",
                name=f"{name} waits: {waiting}" if waiting else name,
            )  # fmt: skip
            if progress["done"]:
                break
            await asyncio.sleep(LOOK)
        self._armed = self._flying = False
        if self._progress.get("error"):
            raise RuntimeError(
                f"{name}: the flight ended after {self.captured} of {self._wanted} frames: "
                f"{self._progress['error']}"
            )

    async def look(self) -> dict[str, Any]:
        """Ask the acquisition server how far the flight has got."""
        self._progress = await self._server.call("progress", self._detector)
        self.captured = self._progress["captured"]
        return self._progress

    async def index(self) -> int:
        """Count the frames captured in this flight; those last known, if the server is gone."""
        if self._flying:
            try:
                if self._go_on_at not in (None, math.inf):
                    await self._go_on()
                await self.look()
            except (ServerUnreachable, RuntimeError) as exc:  # its spool is still on its disk
                logger.warning("%s", exc, extra={"action": "fly"})
        return self.captured

    async def assets(self, index: int | None) -> AsyncIterator[StreamAsset]:
        """Give the documents of what was captured since the last time, up to `index`.

        Raises:
            FrameMismatch: the frames are not what the descriptor promised.
        """
        stop = await self.index() if index is None else index
        if stop > self._sent and self._course is not None:
            async for document in self._documents(stop):
                yield document
        ended = self._progress.get("done") and 0 < self._sent == self.captured < self._wanted
        if ended and not self._closed:  # say so, or its last block would be waited for
            self._closed = True
            assert self._resource is not None
            closing = {**self._resource, "uid": str(uuid.uuid4())}
            closing["parameters"] = {**closing["parameters"], "frames": 0}
            yield "stream_resource", closing  # type: ignore

    async def _documents(self, stop: int) -> AsyncIterator[StreamAsset]:
        assert self._course is not None, "nothing is captured before it is armed"
        course, progress = self._course, self._progress
        if self._resource is None:
            header = progress["header"]
            got = header["shape"][1 + len(self.line) :], header["dtype"]
            _documents.check_frame(f"{course.base}/{self._first}", got, course.described_flown)
            self._resource = _documents.stream_resource(
                str(uuid.uuid4()), course.detector, course.uri, self._uri, self._detector, header,
                base=course.base, first=self._first, start=self._start,
                block=progress["block"], frames=self._wanted, update=self._update,
            )  # fmt: skip
            yield "stream_resource", self._resource  # type: ignore
        course.flown = self._start + stop
        indices = {"start": self._start + self._sent, "stop": course.flown}
        self._sent = stop
        yield "stream_datum", _documents.stream_datum(self._resource["uid"], indices)  # type: ignore

    async def _declared(
        self, info: TriggerInfo, options: dict[str, Any]
    ) -> UpdateDeclaration | None:
        if not isinstance(info, (MapInfo, UpdateInfo)) or info.mode == "add":
            return None
        return info.declare(*await self._server.call("layout", self._detector, options))

    @property
    def last(self) -> Reference | None:
        """The reference of the last frame that is in a document."""
        if self._course is None or not self._sent:
            return None
        return Reference.parse(f"{self._course.base}/{self._first + self._sent - 1}")

    async def hold(self) -> None:
        """Pause after the row at hand, which is taken again afterwards; never raises.

        A pause that failed would end the run without its clean-up, and the beam would stay on.
        """
        if not self._flying:
            return
        self._go_on_at = math.inf
        try:
            await self._server.call("hold", lane="abort", timeout=HOLDING)
        except Exception as exc:
            logger.error("the flight of %s goes on in the pause: %s", self._detector, exc)

    async def resume(self) -> None:
        """Go on after a pause: when the plan does, so that the beam is back before."""
        if self._flying:
            self._go_on_at = time.monotonic() + RESUMED

    async def _go_on(self) -> None:
        self._go_on_at = None
        await self._server.call("go_on", lane="abort")

    async def end(self) -> None:
        """End the flight early, if there is one; what was captured is kept.

        Raises:
            RuntimeError: it did not end.
        """
        if not (self._armed or self._flying):
            return
        flown, self._armed, self._flying, self._go_on_at = self._flying, False, False, None
        try:
            await self._server.call("abort", lane="abort")
            if not flown:
                return
            deadline = time.monotonic() + ENDING
            while not (await self.look())["done"] and time.monotonic() < deadline:
                await asyncio.sleep(LOOK)
        except (ServerUnreachable, RuntimeError) as exc:  # it is gone, and the flight with it
            logger.warning("%s", exc, extra={"action": "fly"})
            return
        if not self._progress["done"]:
            raise RuntimeError(
                f"the flight of {self._detector} did not end within {ENDING:.0f} s; "
                f"see the acquisition server at {self._uri}"
            )


async def hold_all() -> None:
    """Hold all flights of this process: to be called before the beam goes off in a pause.

    The RunEngine pauses devices in no order; a row that ended in between would be kept, and dark.
    """
    await asyncio.gather(*(flyer.hold() for flyer in list(_flyers)))
