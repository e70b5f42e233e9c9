"""StepScan: the part of a RefDetector that takes one frame per trigger.

The reference is the `datum_id` in the event. The frame itself stays in the acquisition server's
spool; its header and summary come with the answer to `expose`.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from bluesky.protocols import Reading
from event_model import DataKey
from ophyd_async.core import WatcherUpdate

from bluesky_em.acquisition.client import FrameHeader, InstrumentClient
from bluesky_em.errors import SpoolFull
from bluesky_em.reference import Reference

from . import _documents
from ._detector_run import DetectorRun
from ._run_paths import RunPaths

logger = logging.getLogger(__name__)

POLL_INTERVAL = 0.25  # seconds between two attempts while there is no room for a frame


@dataclass(frozen=True, kw_only=True)
class ExposureRequest:
    """One exposure of a detector."""

    options: dict[str, Any]
    """as the driver's `expose` takes them"""
    duration: float
    """s that it should take"""
    thumbnail: bool
    """whether its summary is to have one"""


@dataclass(frozen=True, kw_only=True)
class FrameDescription:
    """The frames of a step scan, as a descriptor describes them."""

    shape: list[int]
    dtype: str
    dims: list[str]
    """one name per dimension"""
    thumbnail: bool

    def data_keys(
        self, name: str, server: str, summary: Mapping[str, tuple[str, int]]
    ) -> dict[str, DataKey]:
        """Return the data keys of a detector: its reference, its summary, its thumbnail.

        Args:
            name: the detector's.
            server: address of its acquisition server.
            summary: units and decimal places of each number.
        """
        keys = {name: _documents.data_key(name, server, self.shape, self.dtype, self.dims)}
        for part, (units, precision) in summary.items():
            key = _documents.number_key(name, server, part, units, precision)
            keys[f"{name}-{part}"] = key
        if self.thumbnail:
            keys[f"{name}-thumbnail"] = _documents.thumbnail_key(name, server)
        return keys


@dataclass
class _Captured:
    """The last frame: it is in the spool, and not yet in an event."""

    run: DetectorRun
    reference: Reference
    header: FrameHeader
    emitted: bool = False


class StepScan:
    """The frames that one detector takes, one per trigger.

    Args:
        server: its acquisition server.
        detector: the driver's name for it.
        paths: says whether detectors must wait.
    """

    def __init__(self, server: InstrumentClient, detector: str, paths: RunPaths):
        self._server = server
        self._detector = detector
        self._paths = paths
        self._exposing: asyncio.Task[FrameHeader] | None = None
        self._captured: _Captured | None = None
        self._begun = ""
        self.attempt = 0
        """number of the current trigger; one that has been superseded ends without an error"""
        self.latency = 0.0
        """s from the end of the last exposure to its reference, by both PCs' clocks"""

    async def trigger(
        self, attempt: int, run: DetectorRun, request: ExposureRequest, patience: float
    ) -> AsyncIterator[WatcherUpdate[float]]:
        """Expose, after waiting for room if necessary; as `RefDetector.trigger`.

        Args:
            attempt: `self.attempt` when the trigger began.
            run: to which the frame belongs.
            request: the exposure.
            patience: s to wait while there is no room.
        """
        reference = Reference(run=run.run, detector=run.detector, number=run.next_number)
        exposed, polls = False, 0
        header = None
        while header is None:
            obstacle = self._paths.held
            try:
                if not obstacle:
                    header = await self._expose(str(reference), request, exposed)
            except asyncio.CancelledError:
                if attempt != self.attempt:
                    return  # triggered again after a pause: an error would end the resumed plan
                raise
            except OSError as exc:
                if exc.errno not in (errno.ENOSPC, errno.EIO):
                    raise
                exposed = exposed or exc.errno == errno.EIO  # but not written
                obstacle = str(exc.strerror)
            if obstacle:
                yield _waiting(run.detector, obstacle, polls * POLL_INTERVAL, patience)
                polls += 1
                await asyncio.sleep(POLL_INTERVAL)
                if attempt != self.attempt:
                    return
        self.latency = time.time() - header["ended"]
        run.next_number += 1
        got = (list(header["shape"]), header["dtype"])
        _documents.check_frame(str(reference), got, run.described)
        self._captured = _Captured(run, reference, header)

    def readings(self, name: str, summary: Mapping[str, Any]) -> dict[str, Reading]:
        """Return the reference and the summary of the last frame; NaN where a number is missing.

        Args:
            name: the detector's.
            summary: has the names of the numbers.

        Raises:
            RuntimeError: there is no new frame; a reference belongs to one event.
        """
        captured = self._captured
        if captured is None or captured.emitted:
            last = f"{captured.reference} is in an event already" if captured else "no frame yet"
            raise RuntimeError(f"{name}: {last}; trigger it before reading it")
        found = captured.header.get("summary", {})
        parts = [*summary, *({"thumbnail"} & found.keys())]
        values = {f"{name}-{part}": found.get(part, math.nan) for part in parts}
        values = {name: str(captured.reference), **values}
        ended = captured.header["ended"]
        return {key: Reading(value=value, timestamp=ended) for key, value in values.items()}

    def description(self, run: DetectorRun | None) -> FrameDescription | None:
        """Describe the last frame if it belongs to `run`, the single open one, or to none.

        Args:
            run: None without a single open run.
        """
        captured = self._captured
        if captured is None or (run is not None and run is not captured.run):
            return None
        header = captured.header
        return FrameDescription(
            shape=list(header["shape"]),
            dtype=header["dtype"],
            dims=[axis["name"] for axis in header["axes"]],
            thumbnail="thumbnail" in header.get("summary", {}),
        )

    def assets(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the documents of the frame just read; its run's resource comes once."""
        captured = self._captured
        if captured is None or captured.emitted:
            return []
        run, header, documents = captured.run, captured.header, []
        if not run.emitted:
            run.emitted = True
            resource = _documents.resource(
                run.base, run.root, run.path, self._server.uri, self._detector, header
            )
            documents.append(("resource", resource))
        captured.emitted = True
        return [*documents, ("datum", _documents.datum(captured.reference, header))]

    def emit_again(self) -> None:
        """Emit the last documents again: the RunEngine drops those of a point it interrupts."""
        if self._captured is not None:
            self._captured.emitted = self._captured.run.emitted = False

    def reset(self) -> None:
        """Forget the last frame."""
        self._captured = None

    async def end(self) -> None:
        """End the exposure if one is running, and the wait for room."""
        self.attempt += 1
        task, self._exposing = self._exposing, None
        if task and not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self._server.abort()

    async def _expose(self, reference: str, request: ExposureRequest, exposed: bool) -> FrameHeader:
        """Expose, or write again what was exposed and could not be written."""
        if exposed:
            call = self._server.keep(reference)
        else:
            again, self._begun = reference == self._begun, reference
            call = self._server.expose(
                reference, self._detector, request.options,
                thumbnail=request.thumbnail, again=again, duration=request.duration,
            )  # fmt: skip
        self._exposing = asyncio.create_task(call)
        return await asyncio.shield(self._exposing)


def _waiting(name: str, obstacle: str, waited: float, patience: float) -> WatcherUpdate[float]:
    if waited > patience:
        raise SpoolFull(
            f"{name}: waited {waited:.0f} s for room for a frame without success: {obstacle}. "
            "`bluesky-em status` shows what delays storage"
        )
    if not waited:
        logger.warning("%s waits: %s", name, obstacle, extra={"action": "room"})
    return WatcherUpdate(
        current=waited, initial=0.0, target=patience, unit="s", name=f"{name} waits: {obstacle}"
    )
