"""FlyScan: the part of a RefDetector that takes many frames at the instrument's own pace.

In a fly scan there is no document per frame. The reference is the `stream_datum`: its indices say
which frames have been captured; its `stream_resource` where they wait, where they will be, and
whether they become anything but rows of one array (its parameter `update`).
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from bluesky.protocols import StreamAsset
from ophyd_async.core import TriggerInfo, WatcherUpdate

from bluesky_em.acquisition.client import InstrumentClient, Progress
from bluesky_em.acquisition.instrument_pc.fly_scan import FlyOrder
from bluesky_em.errors import ServerUnreachable, SpoolFull
from bluesky_em.reference import Reference
from bluesky_em.update_modes import UpdateDeclaration

from . import _documents
from ._detector_run import DetectorRun
from ._trigger_info import MapInfo, UpdateInfo, check

logger = logging.getLogger(__name__)

POLL_INTERVAL = 0.05  # seconds between two requests for progress
END_TIMEOUT = 60.0  # seconds that the current row may take, when a fly scan is ended early


class FlyScan:
    """Fly scans of one detector, one after the other.

    Args:
        server: its acquisition server.
        detector: the driver's name for it.
    """

    def __init__(self, server: InstrumentClient, detector: str):
        self._server = server
        self._detector = detector
        self.active = False
        """whether the detector's documents come from the fly scan, not from a step scan"""
        self.options: dict[str, Any] = {}
        """of the exposures of this fly scan, or the last one"""
        self.captured = 0
        """frames of this fly scan in the spool, as far as known here"""
        self.line: list[int] = []
        """axes that an event has in front of those of an exposure: `[points]` if it is a line"""
        self._wanted = 0
        self._per_event = 1
        self._map: tuple[int, int] | None = None
        self._update: dict[str, Any] | None = None
        self._run: DetectorRun | None = None
        self._first = 0
        self._start = 0
        self._progress: Progress | None = None
        self._resource: dict[str, Any] | None = None
        self._sent = 0
        self._closed = False
        self._armed = self._flying = False

    async def arm(
        self, info: TriggerInfo, run: DetectorRun, options: dict[str, Any], duration: float
    ) -> None:
        """Prepare a fly scan.

        Raises:
            ValueError: it is not possible; the message names what is.
        """
        check(info, run.detector)
        declared = await self._declared(info, options)
        update = None if declared is None else declared.dump()
        run.check_update(update or {})
        line = [info.shape[1]] if isinstance(info, MapInfo) else []
        run.check_line(line)
        per_event = line[0] if line and update is None else 1
        frames = info.number_of_events * per_event
        order = FlyOrder(
            base=run.base,
            first=run.next_number,
            frames=frames,
            duration=duration,
            options=options,
            scan=info.scan if isinstance(info, MapInfo) else None,
            entry="block" if update is None else "line" if line else "frame",
        )
        await self._server.arm(self._detector, order)
        self._armed = True
        run.update, self._update, run.line, self.line = update or {}, update, line, line
        self._map = info.shape if isinstance(info, MapInfo) and update is None else None
        self._run, self._wanted, self._resource = run, frames, None
        self._per_event = per_event
        self._first, self._start = run.next_number, run.flown
        self.options, self.captured, self._sent = options, 0, 0
        self._progress, self._closed = None, False
        self.active = True
        run.next_number += frames

    async def kickoff(self) -> None:
        """Begin, or wait for the other detectors that were armed.

        Raises:
            RuntimeError: it was not prepared since the last fly scan.
        """
        if self._flying:
            return  # after a pause the plan repeats what it has done
        self._flying = True
        try:
            await self._server.kickoff(self._detector)
        except BaseException:
            self._flying = False
            raise

    async def complete(self, patience: float) -> AsyncIterator[WatcherUpdate[int]]:
        """Report progress until the last frame is in the spool.

        Raises:
            RuntimeError: the fly scan ended early; the message has the reason.
            SpoolFull: there was no room for `patience` seconds.
        """
        assert self._run is not None, "kickoff has refused"
        name, since = self._run.detector, 0.0
        while self._flying:
            await self._server.resume_if_due()  # the plan collects nothing in the meantime
            progress = await self.poll()
            waiting = progress["waiting"]
            since = (since or time.monotonic()) if waiting else 0.0
            if waiting and time.monotonic() - since > patience:
                await self.end()
                raise SpoolFull(
                    f"{name}: its fly scan waited {patience:.0f} s for room without success: "
                    f"{waiting}. `bluesky-em status` shows what delays storage"
                )
            yield WatcherUpdate(
                current=self.captured, initial=0, target=self._wanted, unit="frames",
                name=f"{name} waits: {waiting}" if waiting else name,
            )  # fmt: skip
            if progress["done"]:
                break
            await asyncio.sleep(POLL_INTERVAL)
        self._armed = self._flying = False
        if self._progress is not None and self._progress["error"]:
            raise RuntimeError(
                f"{name}: the fly scan ended after {self.captured} of {self._wanted} frames: "
                f"{self._progress['error']}"
            )

    async def poll(self) -> Progress:
        """Ask the acquisition server for the progress of the fly scan."""
        self._progress = await self._server.progress(self._detector)
        self.captured = self._progress["captured"]
        return self._progress

    async def index(self) -> int:
        """Return the number of captured events; the last known one if the server is gone.

        A line of a map is an event when it is whole, or when no more of its points come.
        """
        if self._flying:
            try:
                await self._server.resume_if_held()
                await self.poll()
            except (ServerUnreachable, RuntimeError) as exc:  # its spool is still on its disk
                logger.warning("%s", exc, extra={"action": "fly"})
        whole, rest = divmod(self.captured, self._per_event)
        return whole + (1 if rest and not self._flying else 0)

    async def assets(self, index: int | None) -> AsyncIterator[StreamAsset]:
        """Yield the documents of what was captured since the last call, up to `index`.

        Raises:
            FrameMismatch: the frames are not what the descriptor promised.
        """
        stop = await self.index() if index is None else index
        if self._run is None or not stop:
            return
        if self._resource is None:
            self._resource = self._describe(self._run)
            yield "stream_resource", self._resource  # type: ignore
        if not self._flying and self.captured < self._wanted and not self._closed:
            self._closed = True  # else the writer would wait for its last block
            closing = {**self._resource, "uid": str(uuid.uuid4())}
            ended = {"frames": self.captured, "closes": self._resource["uid"]}
            closing["parameters"] = {**closing["parameters"], **ended}
            yield "stream_resource", closing  # type: ignore
        if stop > self._sent:
            indices = {"start": self._start + self._sent, "stop": self._start + stop}
            self._sent, self._run.flown = stop, self._start + stop
            uid = self._resource["uid"]
            yield "stream_datum", _documents.stream_datum(uid, indices)  # type: ignore

    def _describe(self, run: DetectorRun) -> dict[str, Any]:
        """Compose the stream resource, when the first frames have been captured."""
        progress = self._progress
        assert progress is not None and progress["header"] is not None, "frames were captured"
        header = progress["header"]
        inner = len(self.line) if self._update is not None else 0
        shape = [*self.line, *header["shape"][1 + inner :]]
        reference = f"{run.base}/{self._first}"
        _documents.check_frame(reference, (shape, header["dtype"]), run.described_flown)
        return _documents.stream_resource(
            str(uuid.uuid4()), run.detector, run.uri, self._server.uri, self._detector, header,
            base=run.base, first=self._first, start=self._start, block=progress["block"],
            frames=self._wanted, update=self._update, map_shape=self._map,
        )  # fmt: skip

    async def _declared(
        self, info: TriggerInfo, options: dict[str, Any]
    ) -> UpdateDeclaration | None:
        if not isinstance(info, (MapInfo, UpdateInfo)) or info.mode == "add":
            return None
        return info.declare(*await self._server.layout(self._detector, options))

    @property
    def last(self) -> Reference | None:
        """The reference of the last frame that is in a document."""
        if self._run is None or not self._sent:
            return None
        sent = min(self.captured, self._sent * self._per_event)
        return Reference.parse(f"{self._run.base}/{self._first + sent - 1}")

    async def end(self) -> None:
        """End the fly scan early, if there is one; what was captured is kept.

        Raises:
            RuntimeError: it did not end.
        """
        if not (self._armed or self._flying):
            return
        has_begun, self._armed, self._flying = self._flying, False, False
        try:
            await self._server.abort()
            if not has_begun:
                return
            deadline = time.monotonic() + END_TIMEOUT
            while not (progress := await self.poll())["done"] and time.monotonic() < deadline:
                await asyncio.sleep(POLL_INTERVAL)
        except (ServerUnreachable, RuntimeError) as exc:  # it is gone, and the fly scan with it
            logger.warning("%s", exc, extra={"action": "fly"})
            return
        if not progress["done"]:
            raise RuntimeError(
                f"the fly scan of {self._detector} did not end within {END_TIMEOUT:.0f} s; "
                f"see the acquisition server at {self._server.uri}"
            )
