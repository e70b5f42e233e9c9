"""RefDetector: a trigger that ends with the exposure and leaves a reference.

Why not ophyd-async's `StandardDetector`: it gives the user no reference in step scans, and its
trigger waits until a file on disk has grown. Here the frame stays in the acquisition server's
spool; the documents say where it will be.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import logging
import time
import uuid
from abc import abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from bluesky.protocols import Asset, Hints, Reading, Triggerable
from event_model import DataKey
from ophyd_async.core import (
    AsyncStatus,
    Device,
    DeviceConnector,
    DeviceMock,
    NotConnectedError,
    PathProvider,
    StandardReadable,
    WatchableAsyncStatus,
    WatcherUpdate,
)

from . import documents
from .errors import FrameMismatch, ServerUnreachable, SpoolFull
from .link import link_to
from .reference import Reference

logger = logging.getLogger(__name__)

EXPOSURE_GRACE = 30.0  # seconds a server may take beyond the exposure itself
LOOK = 0.25  # seconds between two looks whether there is room for a frame
LONGEST_EXPOSURE = 86400.0  # seconds; what is impossible is for the instrument to refuse


@dataclass
class _Resource:
    """One detector's frames in one run (or, outside a single run, one frame)."""

    uid: str
    run: str
    root: str
    path: str
    next_number: int
    emitted: bool = False
    described: tuple[list[int], str] | None = None


@dataclass
class _Captured:
    """The last frame: it waits in the spool, to be read into an event."""

    resource: _Resource
    reference: Reference
    header: dict[str, Any]
    emitted: bool = False


class RefDetector(StandardReadable, Triggerable):
    """A detector behind an acquisition server.

    `trigger` ends when the exposure ends. `read` gives the reference, which is the event's
    `datum_id`. The pixels are fetched and stored later, by the writer of a `Storage`.

    Outside a single open run (several at once, or no `Storage`) each frame gets a resource and a
    uid of its own, since nobody can tell at the trigger which run it will belong to.

    Args:
        uri: the acquisition server, e.g. `PYRO:eels_server@gatan-pc:9091`.
        detector: the driver's name for this detector, e.g. `eels`.
        path_provider: a Storage's `path_provider`.
        name: the device's name; it is in every reference.
    """

    def __init__(self, uri: str, detector: str, *, path_provider: PathProvider, name: str = ""):
        self.uri = uri
        self._detector = detector
        self._server: Any = link_to(uri)
        self._paths = path_provider
        self._resources: dict[str, _Resource] = {}
        self._loose_description: tuple[list[int], str] | None = None
        self._exposing: asyncio.Task | None = None
        self._generation = 0
        self._captured: _Captured | None = None
        self._loose_numbers = itertools.count()
        self.patience = 600.0
        """s that a trigger waits while there is no room for its frame"""
        self.latency = 0.0
        """s from the end of the last exposure to its reference, by both PCs' clocks"""
        super().__init__(name=name, connector=_ServerConnector())

    @abstractmethod
    async def _options(self) -> dict[str, Any]:
        """Give the exposure's options, as the driver's `expose` takes them."""

    @abstractmethod
    async def _duration(self) -> float:
        """Give the time the exposure should take, in s."""

    # -- what the RunEngine calls --

    @AsyncStatus.wrap
    async def stage(self) -> None:
        """Forget an unfinished frame of an earlier run."""
        await super().stage()
        await self._end_exposure()
        self._captured = self._loose_description = None

    @AsyncStatus.wrap
    async def unstage(self) -> None:
        """End a running exposure; the instrument must not go on after the plan."""
        await self._end_exposure()
        await super().unstage()

    @WatchableAsyncStatus.wrap
    async def trigger(self) -> AsyncIterator[WatcherUpdate[float]]:
        """Expose; done when the frame is in the acquisition server's spool.

        Waits while there is no room for the frame, or no disk for its documents; whoever watches
        the status is told so, with the fill level.

        Raises:
            FrameMismatch: the frame does not fit this run's descriptor.
            ServerUnreachable: the acquisition server went away.
            SpoolFull: there was no room for `patience` seconds.
        """
        await self._end_exposure()
        generation, looks = self._generation, 0
        resource = self._resource_now()
        reference = Reference(run=resource.run, detector=self.name, number=resource.next_number)
        options = await self._options()
        duration = min(max(0.0, await self._duration()), LONGEST_EXPOSURE)  # 0 if it is NaN
        call = ("expose", str(reference), self._detector, options)
        header = None
        while header is None:
            obstacle: str = getattr(self._paths, "held", "")
            try:
                if not obstacle:
                    header = await self._expose(call, duration + EXPOSURE_GRACE)
            except asyncio.CancelledError:
                if generation != self._generation:
                    return  # triggered again after a pause: failing would end the resumed plan
                raise
            except OSError as exc:
                if exc.errno not in (errno.ENOSPC, errno.EIO):
                    raise
                if exc.errno == errno.EIO:
                    call = ("keep", str(reference))  # exposed it is; not written
                obstacle = str(exc.strerror)
            if obstacle:
                yield self._still_waiting(obstacle, looks * LOOK)
                looks += 1
                await asyncio.sleep(LOOK)
                if generation != self._generation:
                    return
        self.latency = time.time() - header["ended"]
        resource.next_number += 1
        self._check(resource, reference, header)
        self._captured = _Captured(resource, reference, header)

    async def read(self) -> dict[str, Reading]:
        """Give the reference, stamped with the end of its exposure.

        Raises:
            RuntimeError: there is no new frame; a reference belongs to one event.
        """
        captured = self._captured
        if captured is None or captured.emitted:
            last = f"{captured.reference} is in an event already" if captured else "no frame yet"
            raise RuntimeError(f"{self.name}: {last}; trigger it before reading it")
        reading = Reading(value=str(captured.reference), timestamp=captured.header["ended"])
        return {**await super().read(), self.name: reading}

    async def describe(self) -> dict[str, DataKey]:
        """Describe the frames; from then on every frame of the run must fit."""
        captured = self._captured
        resource = captured.resource if captured is not None else None
        if self._run is not None:
            resource = self._resource_now()
        if captured is not None and captured.resource is resource:
            shape, dtype = list(captured.header["shape"]), captured.header["dtype"]
            dims = [axis["name"] for axis in captured.header["axes"]]
        else:
            shape, dtype = await self._server.call("layout", self._detector, await self._options())
            dims = [f"dim_{i}" for i in range(len(shape))]
        if self._run is None:
            self._loose_description = shape, dtype
        elif resource is not None:
            resource.described = shape, dtype
        key = documents.data_key(self.name, self.uri, shape, dtype, dims)
        return {**await super().describe(), self.name: key}

    async def collect_asset_docs(self, index: int | None = None) -> AsyncIterator[Asset]:
        """Give the resource, once, and the datum of the frame just read."""
        captured = self._captured
        if captured is None or captured.emitted:
            return
        resource, header = captured.resource, captured.header
        if not resource.emitted:
            resource.emitted = True
            document = documents.resource(
                resource.uid, resource.root, resource.path, self.uri, self._detector, header
            )
            yield "resource", document  # type: ignore
        captured.emitted = True
        yield "datum", documents.datum(captured.reference, resource.uid, header)  # type: ignore

    async def pause(self) -> None:
        """Emit the last documents anew: the RunEngine drops those of a point it interrupts."""
        if self._captured is not None:
            self._captured.emitted = self._captured.resource.emitted = False

    async def resume(self) -> None:
        """Nothing to do: the RunEngine triggers again."""

    async def preflight(self, frames: int) -> None:
        """Find out whether so many frames, as set up now, can be kept; see `plan_stubs.preflight`.

        Raises:
            NotEnoughSpace: they would not fit on the storage disk.
            ValueError: not one fits into the acquisition server's spool.
        """
        options = await self._options()
        size: int = await self._server.call("preflight", self._detector, options)
        check_room = getattr(self._paths, "check_room", None)  # only a Storage's has it
        if check_room is not None:
            await asyncio.to_thread(check_room, frames * size)

    @property
    def hints(self) -> Hints:
        """Hint at nothing to plot: a reference is no number."""
        return {"fields": []}

    # -- inside --

    def _resource_now(self) -> _Resource:
        run = self._run
        if run is None:
            return self._new_resource(None)
        if run not in self._resources:
            still_open = getattr(self._paths, "open_runs", ())
            self._resources = {r: self._resources[r] for r in self._resources if r in still_open}
            self._resources[run] = self._new_resource(run)
        return self._resources[run]

    def _new_resource(self, run: str | None) -> _Resource:
        uid, place = str(uuid.uuid4()), self._paths(self.name)
        return _Resource(
            uid=uid,
            run=run or uid,
            root=place.directory_path.as_posix(),
            path=f"{place.filename}.h5",
            next_number=0 if run else next(self._loose_numbers),
            described=None if run else self._loose_description,
        )

    @property
    def _run(self) -> str | None:
        return getattr(self._paths, "run", None)

    async def _expose(self, call: tuple[Any, ...], timeout: float) -> dict[str, Any]:
        self._exposing = asyncio.create_task(
            self._server.call(*call, lane="expose", timeout=timeout)
        )
        return await asyncio.shield(self._exposing)

    def _still_waiting(self, obstacle: str, waited: float) -> WatcherUpdate[float]:
        if waited > self.patience:
            raise SpoolFull(
                f"{self.name}: waited {waited:.0f} s for room for a frame, in vain: {obstacle}. "
                "`bluesky-em status` tells what holds storage up"
            )
        if not waited:
            logger.warning("%s waits: %s", self.name, obstacle, extra={"action": "room"})
        return WatcherUpdate(
            current=waited, initial=0.0, target=self.patience, unit="s",
            name=f"{self.name} waits: {obstacle}",
        )  # fmt: skip

    def _check(self, resource: _Resource, reference: Reference, header: dict[str, Any]) -> None:
        got = (list(header["shape"]), header["dtype"])
        if resource.described and got != resource.described:
            raise FrameMismatch(
                f"{reference}: the frame has shape {got[0]} and dtype {got[1]}, but this run's "
                f"descriptor promised {resource.described[0]} and {resource.described[1]}. "
                f"Change the frame size of {self.name} between runs, not within one"
            )

    async def _end_exposure(self) -> None:
        self._generation += 1  # whatever is in flight is superseded
        task, self._exposing = self._exposing, None
        if task and not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self._server.call("abort", lane="abort")


class MockServer:
    """Answers in mock mode, instead of an acquisition server.

    Attributes:
        array: the frame every exposure gives; set it to what a test needs.
    """

    def __init__(self) -> None:
        self.array = np.zeros((2048,), dtype="<f4")

    async def call(
        self, method: str, *args: Any, lane: str = "settings", timeout: float = 0.0
    ) -> Any:
        """Answer `expose`, `layout` and `preflight` from `array`; do nothing else."""
        shape, dtype = list(self.array.shape), self.array.dtype.str
        if method == "layout":
            return [shape, dtype]
        if method == "preflight":
            return self.array.nbytes
        axes = [
            {"name": f"dim_{i}", "units": "", "offset": 0.0, "scale": 1.0, "size": size}
            for i, size in enumerate(shape)
        ]
        return {
            "reference": args[0] if args else "", "shape": shape, "dtype": dtype, "axes": axes,
            "nbytes": self.array.nbytes, "checksum": 0, "metadata": {},
            "started": 0.0, "ended": 0.0,
        }  # fmt: skip


class _ServerConnector(DeviceConnector):
    """Finds the acquisition server before the signals do, to say once what is wrong."""

    async def connect_mock(self, device: Device, mock: DeviceMock) -> None:
        assert isinstance(device, RefDetector)
        device._server = MockServer()  # noqa: SLF001 (its own connector)
        await super().connect_mock(device, mock)

    async def connect_real(self, device: Device, timeout: float, force_reconnect: bool) -> None:
        assert isinstance(device, RefDetector)
        try:
            await link_to(device.uri).call("identity", timeout=timeout)
        except ServerUnreachable as exc:
            raise NotConnectedError(str(exc)) from exc
        await super().connect_real(device, timeout, force_reconnect)
