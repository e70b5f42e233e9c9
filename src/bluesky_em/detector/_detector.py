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
import math
import time
import uuid
from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from bluesky.protocols import (
    Asset,
    Collectable,
    Flyable,
    Hints,
    Preparable,
    Reading,
    Stoppable,
    StreamAsset,
    Triggerable,
)
from event_model import DataKey
from ophyd_async.core import (
    AsyncStatus,
    Device,
    DeviceConnector,
    DeviceMock,
    NotConnectedError,
    PathProvider,
    StandardReadable,
    StandardReadableFormat,
    TriggerInfo,
    WatchableAsyncStatus,
    WatcherUpdate,
    soft_signal_rw,
)

from bluesky_em.acquisition.client import client_for
from bluesky_em.errors import ServerUnreachable, SpoolFull
from bluesky_em.reference import Reference

from . import _documents
from ._detector_run import DetectorRun
from ._flyer import Flyer
from ._mock_server import MockServer
from ._trigger_info import is_flight

logger = logging.getLogger(__name__)

EXPOSURE_GRACE = 30.0  # seconds a server may take beyond the exposure itself
LOOK = 0.25  # seconds between two looks whether there is room for a frame
LONGEST_EXPOSURE = 86400.0  # seconds; what is impossible is for the instrument to refuse


@dataclass
class _Captured:
    """The last frame: it waits in the spool, to be read into an event."""

    course: DetectorRun
    reference: Reference
    header: dict[str, Any]
    emitted: bool = False


class RefDetector(StandardReadable, Triggerable, Preparable, Flyable, Collectable, Stoppable):
    """A detector behind an acquisition server.

    `trigger` ends when the exposure ends. `read` gives the reference, which is the event's
    `datum_id`, and beside it the frame's summary, e.g. `eels-total`: numbers that the acquisition
    server has computed, for live tables and for plans that decide by them. The pixels are fetched
    and stored later, by the writer of a `Storage`.

    In a fly scan (`prepare`, `kickoff`, `complete`, `collect`) it takes many frames at its own
    pace; fly plans written for ophyd-async's `StandardDetector` run unchanged. There the reference
    is the `stream_datum`: frame `n` of detector `eels` is still `<run uid>/eels/<n>`.

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
        self._use(client_for(uri))
        self._paths = path_provider
        self._courses: dict[str, DetectorRun] = {}
        self._loose_promise: dict[str, Any] = {}
        self._exposing: asyncio.Task | None = None
        self._generation = 0
        self._captured: _Captured | None = None
        self._loose_numbers = itertools.count()
        self._livetime = 0.0
        self.patience = 600.0
        """s that a trigger waits while there is no room for its frame"""
        self.latency = 0.0
        """s from the end of the last exposure to its reference, by both PCs' clocks"""
        if self.SUMMARY:
            with self.add_children_as_readables(StandardReadableFormat.CONFIG_SIGNAL):
                self.thumbnail = soft_signal_rw(bool, False)
                """whether events have `<name>-thumbnail`, 64 numbers; set it between runs"""
        super().__init__(name=name, connector=_ServerConnector())

    SUMMARY: Mapping[str, tuple[str, int]] = {
        "total": ("counts", 1),
        "mean": ("counts", 3),
        "max": ("counts", 1),
        "saturation_fraction": ("", 4),
    }
    """units and decimal places of the numbers that events have of a frame, as `<name>-total`; see
    `summary.summarise`. Empty where the detector only flies: there are no events then."""
    LIVETIME: str | None = None
    """which option a `TriggerInfo.livetime` stands for; None if it stands for none"""

    @abstractmethod
    async def _options(self) -> dict[str, Any]:
        """Give the exposure's options, as the driver's `expose` takes them."""

    @abstractmethod
    def _duration(self, options: dict[str, Any]) -> float:
        """Give the time that an exposure with these options should take, in s."""

    # -- what the RunEngine calls --

    @AsyncStatus.wrap
    async def stage(self) -> None:
        """Forget an unfinished frame of an earlier run."""
        await super().stage()
        await self._end_exposure()
        self._captured, self._loose_promise = None, {}
        self._livetime, self._flyer.active = 0.0, False

    @AsyncStatus.wrap
    async def unstage(self) -> None:
        """End a running exposure or flight; the instrument must not go on after the plan."""
        await self._end_exposure()
        await super().unstage()

    async def stop(self, success: bool = True) -> None:
        """End a running exposure or flight; what was captured can still be collected."""
        await self._end_exposure()

    @WatchableAsyncStatus.wrap
    async def trigger(self) -> AsyncIterator[WatcherUpdate[float]]:
        """Expose; done when the frame is in the acquisition server's spool.

        Waits while there is no room for the frame, or no disk for its documents; whoever watches
        the status is told so, with the fill level.

        Raises:
            FrameMismatch: the frame, or `thumbnail`, does not fit this run's descriptor.
            ServerUnreachable: the acquisition server went away.
            SpoolFull: there was no room for `patience` seconds.
            ValueError: this run's frames become one array, as a flight has declared.
        """
        await self._end_exposure()
        self._flyer.active = False
        generation, looks = self._generation, 0
        course = self._course_now()
        course.check_update({})
        thumbnail = await self._wants_thumbnail()
        course.check_thumbnail(thumbnail)
        course.update = {}
        reference = Reference(run=course.run, detector=self.name, number=course.next_number)
        options, duration = await self._exposure(self._livetime)
        call = ("expose", str(reference), self._detector, options, thumbnail)
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
        course.next_number += 1
        got = (list(header["shape"]), header["dtype"])
        _documents.check_frame(str(reference), got, course.described)
        self._captured = _Captured(course, reference, header)

    async def read(self) -> dict[str, Reading]:
        """Give the reference and its frame's summary, stamped with the end of the exposure.

        Raises:
            RuntimeError: there is no new frame; a reference belongs to one event.
        """
        captured = self._captured
        if captured is None or captured.emitted:
            last = f"{captured.reference} is in an event already" if captured else "no frame yet"
            raise RuntimeError(f"{self.name}: {last}; trigger it before reading it")
        header = captured.header
        values = {self.name: str(captured.reference), **self._told(header["summary"])}
        readings = {key: Reading(value=v, timestamp=header["ended"]) for key, v in values.items()}
        return {**await super().read(), **readings}

    async def describe(self) -> dict[str, DataKey]:
        """Describe the frames; from then on every frame of the run must fit."""
        captured = self._captured
        course = captured.course if captured is not None else None
        if self._run is not None:
            course = self._course_now()
        if self._flyer.active:  # a plan that declares its stream without `collect=True`
            return {**await super().describe(), **await self.describe_collect()}
        if captured is not None and captured.course is course:
            shape, dtype = list(captured.header["shape"]), captured.header["dtype"]
            dims = [axis["name"] for axis in captured.header["axes"]]
            thumbnail = "thumbnail" in captured.header["summary"]
        else:
            shape, dtype = await self._server.call("layout", self._detector, await self._options())
            dims = [f"dim_{i}" for i in range(len(shape))]
            thumbnail = await self._wants_thumbnail()
        if self._run is None:
            self._loose_promise = {"described": (shape, dtype), "thumbnail": thumbnail}
        elif course is not None:
            course.described, course.thumbnail = (shape, dtype), thumbnail
        keys = {self.name: _documents.data_key(self.name, self.uri, shape, dtype, dims)}
        for part, shown in self.SUMMARY.items():
            keys[f"{self.name}-{part}"] = _documents.number_key(self.name, self.uri, part, *shown)
        if thumbnail:
            keys[f"{self.name}-thumbnail"] = _documents.thumbnail_key(self.name, self.uri)
        return {**await super().describe(), **keys}

    async def collect_asset_docs(
        self, index: int | None = None
    ) -> AsyncIterator[Asset | StreamAsset]:
        """Give the documents of the frame just read, or of those captured in a flight so far.

        The resource, or stream resource, comes once.
        """
        if self._flyer.active:
            async for document in self._flyer.assets(index):
                yield document
            return
        captured = self._captured
        if captured is None or captured.emitted:
            return
        course, header = captured.course, captured.header
        if not course.emitted:
            course.emitted = True
            document = _documents.resource(
                course.uid, course.root, course.path, self.uri, self._detector, header
            )
            yield "resource", document  # type: ignore
        captured.emitted = True
        yield "datum", _documents.datum(captured.reference, course.uid, header)  # type: ignore

    @AsyncStatus.wrap
    async def prepare(self, value: TriggerInfo) -> None:
        """Get ready for a flight of `number_of_events` frames.

        A `MapInfo` makes it a map; its mode, or an `UpdateInfo`'s, says what array the frames
        become. With one event, get ready for triggers of that `livetime`, in s (0: as it is set).

        Raises:
            ValueError: this cannot be flown; the message tells what can.
        """
        await self._end_exposure()
        if not is_flight(value):
            self._livetime = value.livetime
            return
        options, duration = await self._exposure(value.livetime)
        await self._flyer.arm(value, self._course_now(), options, duration)

    @AsyncStatus.wrap
    async def kickoff(self) -> None:
        """Begin the flight; detectors of one server that were prepared begin together.

        Raises:
            RuntimeError: it was not prepared since its last flight.
        """
        await self._flyer.kickoff()

    @WatchableAsyncStatus.wrap
    async def complete(self) -> AsyncIterator[WatcherUpdate[int]]:
        """Watch the flight; done when its last frame is in the spool.

        Raises:
            RuntimeError: it ended early.
            SpoolFull: there was no room for `patience` seconds.
        """
        async for update in self._flyer.complete(self.patience):
            yield update

    async def describe_collect(self) -> dict[str, DataKey]:
        """Describe the frames of a flight."""
        options = self._flyer.options or await self._options()
        shape, dtype = await self._server.call("layout", self._detector, options)
        if self._run is not None:
            self._course_now().described_flown = shape, dtype
        shape = [*self._flyer.line, *shape]
        dims = [f"dim_{i}" for i in range(len(shape))]
        key = _documents.data_key(self.name, self.uri, shape, dtype, dims, flown=True)
        return {self.name: key}

    async def get_index(self) -> int:
        """Count the frames captured in this flight."""
        return await self._flyer.index()

    @property
    def flown(self) -> str | None:
        """The reference of the last frame collected in a fly scan; it is stored last, too."""
        return None if self._flyer.last is None else str(self._flyer.last)

    async def pause(self) -> None:
        """Pause a flight after the row at hand.

        In a step scan, emit the last documents anew: the RunEngine drops those of a point it
        interrupts.
        """
        await self._flyer.hold()
        if self._captured is not None:
            self._captured.emitted = self._captured.course.emitted = False

    async def resume(self) -> None:
        """Go on with a flight; in a step scan the RunEngine triggers again."""
        await self._flyer.resume()

    async def preflight(self, frames: int, livetime: float = 0.0) -> None:
        """Find out whether so many frames can be kept; see `plan_stubs.preflight`.

        Raises:
            NotEnoughSpace: they would not fit on the storage disk.
            ValueError: not one fits into the acquisition server's spool.
        """
        options, _ = await self._exposure(livetime)
        size: int = await self._server.call("preflight", self._detector, options)
        check_room = getattr(self._paths, "check_room", None)  # only a Storage's has it
        if check_room is not None:
            await asyncio.to_thread(check_room, frames * size)

    @property
    def hints(self) -> Hints:
        """Hint at the total counts to plot; at nothing in a flight, which has no events."""
        plotted = "total" in self.SUMMARY and not self._flyer.active
        return {"fields": [f"{self.name}-total"] if plotted else []}

    # -- inside --

    def _use(self, server: Any) -> None:
        self._server = server
        self._flyer = Flyer(server, self.uri, self._detector)

    def _course_now(self) -> DetectorRun:
        run = self._run
        if run is None:
            return self._new_course(None)
        if run not in self._courses:
            still_open = getattr(self._paths, "open_runs", ())
            self._courses = {r: self._courses[r] for r in self._courses if r in still_open}
            self._courses[run] = self._new_course(run)
        return self._courses[run]

    def _new_course(self, run: str | None) -> DetectorRun:
        uid, place = str(uuid.uuid4()), self._paths(self.name)
        return DetectorRun(
            uid=uid,
            run=run or uid,
            detector=self.name,
            root=place.directory_path.as_posix(),
            path=f"{place.filename}.h5",
            next_number=0 if run else next(self._loose_numbers),
            **({} if run else self._loose_promise),
        )

    @property
    def _run(self) -> str | None:
        return getattr(self._paths, "run", None)

    async def _wants_thumbnail(self) -> bool:
        return bool(self.SUMMARY) and await self.thumbnail.get_value()

    def _told(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Give by data key what a frame's summary tells; NaN where it does not."""
        parts = [*self.SUMMARY, *({"thumbnail"} & summary.keys())]
        return {f"{self.name}-{part}": summary.get(part, math.nan) for part in parts}

    async def _exposure(self, livetime: float) -> tuple[dict[str, Any], float]:
        """Give the options of an exposure, and how long it should take, in s."""
        options = await self._options()
        if livetime:
            if self.LIVETIME is None:
                raise ValueError(
                    f"{self.name} has no time that livetime could set: set its signals instead"
                )
            options[self.LIVETIME] = livetime
        return options, min(max(0.0, self._duration(options)), LONGEST_EXPOSURE)  # 0 if it is NaN

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

    async def _end_exposure(self) -> None:
        self._generation += 1  # whatever is in flight is superseded
        task, self._exposing = self._exposing, None
        if task and not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self._server.call("abort", lane="abort")
        await self._flyer.end()


class _ServerConnector(DeviceConnector):
    """Finds the acquisition server before the signals do, to say once what is wrong."""

    async def connect_mock(self, device: Device, mock: DeviceMock) -> None:
        assert isinstance(device, RefDetector)
        device._use(MockServer())  # noqa: SLF001 (its own connector)
        await super().connect_mock(device, mock)

    async def connect_real(self, device: Device, timeout: float, force_reconnect: bool) -> None:
        assert isinstance(device, RefDetector)
        try:
            await client_for(device.uri).call("identity", timeout=timeout)
        except ServerUnreachable as exc:
            raise NotConnectedError(str(exc)) from exc
        await super().connect_real(device, timeout, force_reconnect)
