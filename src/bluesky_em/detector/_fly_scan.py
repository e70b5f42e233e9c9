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
        """axes that its frames have in front of those of an exposure; see `MapInfo.line`"""
        self._wanted = 0
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
        line = info.line if isinstance(info, MapInfo) else []
        order = FlyOrder(
            base=run.base,
            first=run.next_number,
            frames=info.number_of_events,
            duration=duration,
            options=options,
            scan=info.scan if isinstance(info, MapInfo) else None,
            entry="block" if update is None else "line" if line else "frame",
        )
        await self._server.arm(self._detector, order)
        self._armed = True
        run.update, self._update, self.line = update or {}, update, line
        self._run, self._wanted, self._resource = run, info.number_of_events, None
        self._first, self._start = run.next_number, run.flown
        self.options, self.captured, self._sent = options, 0, 0
        self._progress, self._closed = None, False
        self.active = True
        run.next_number += info.number_of_events

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
        """Return the number of captured frames; the last known one if the server is gone."""
        if self._flying:
            try:
                await self._server.resume_if_held()
                await self.poll()
            except (ServerUnreachable, RuntimeError) as exc:  # its spool is still on its disk
                logger.warning("%s", exc, extra={"action": "fly"})
        return self.captured

    async def assets(self, index: int | None) -> AsyncIterator[StreamAsset]:
        """Yield the documents of what was captured since the last call, up to `index`.

        Raises:
            FrameMismatch: the frames are not what the descriptor promised.
        """
        stop = await self.index() if index is None else index
        if stop > self._sent and self._run is not None:
            async for document in self._documents(stop):
                yield document
        done = self._progress is not None and self._progress["done"]
        ended_early = done and 0 < self._sent == self.captured < self._wanted
        if ended_early and not self._closed:  # else the writer would wait for its last block
            self._closed = True
            assert self._resource is not None
            closing = {**self._resource, "uid": str(uuid.uuid4())}
            closing["parameters"] = {**closing["parameters"], "frames": 0}
            yield "stream_resource", closing  # type: ignore

    async def _documents(self, stop: int) -> AsyncIterator[StreamAsset]:
        assert self._run is not None, "nothing is captured before it is armed"
        run, progress = self._run, self._progress
        if self._resource is None:
            assert progress is not None and progress["header"] is not None, "frames were captured"
            header = progress["header"]
            got = header["shape"][1 + len(self.line) :], header["dtype"]
            _documents.check_frame(f"{run.base}/{self._first}", got, run.described_flown)
            self._resource = _documents.stream_resource(
                str(uuid.uuid4()), run.detector, run.uri, self._server.uri, self._detector, header,
                base=run.base, first=self._first, start=self._start,
                block=progress["block"], frames=self._wanted, update=self._update,
            )  # fmt: skip
            yield "stream_resource", self._resource  # type: ignore
        run.flown = self._start + stop
        indices = {"start": self._start + self._sent, "stop": run.flown}
        self._sent = stop
        yield "stream_datum", _documents.stream_datum(self._resource["uid"], indices)  # type: ignore

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
        return Reference.parse(f"{self._run.base}/{self._first + self._sent - 1}")

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
