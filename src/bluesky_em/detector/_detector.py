"""RefDetector: a detector whose trigger ends with the exposure and leaves a reference.

Why not ophyd-async's `StandardDetector`: it gives the user no reference in step scans, and its
trigger waits until a file on disk has grown. Here the frame stays in the acquisition server's
spool; the documents say where it will be.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
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

from bluesky_em.acquisition.client import InstrumentClient, client_for
from bluesky_em.errors import ServerUnreachable

from . import _documents
from ._detector_run import DetectorRuns
from ._device_name import check_device_name
from ._fly_scan import FlyScan
from ._mock_server import MockServer
from ._run_paths import as_run_paths
from ._step_scan import ExposureRequest, FrameDescription, StepScan
from ._trigger_info import is_fly_scan

DURATION_LIMIT = 86400.0  # seconds; the instrument, not this limit, refuses impossible exposures


class RefDetector(StandardReadable, Triggerable, Preparable, Flyable, Collectable, Stoppable):
    """A detector behind an acquisition server.

    `trigger` ends when the exposure ends. `read` returns the reference, which is the event's
    `datum_id`, and the frame's summary, e.g. `eels-total`: numbers that the acquisition server has
    computed, for live tables and for plans that decide by them. The pixels are fetched and stored
    later, by the writer of a `Storage`.

    In a fly scan (`prepare`, `kickoff`, `complete`, `collect`) it takes many frames at its own
    pace; fly plans written for ophyd-async's `StandardDetector` run unchanged. There the reference
    is the `stream_datum`: frame `n` of detector `eels` is still `<run uid>.eels/<n>`.

    Outside a single open run (several at once, or no `Storage`) each frame gets a resource and a
    uid of its own, since its run is not known at the trigger.

    Args:
        uri: the acquisition server, e.g. `PYRO:eels_server@gatan-pc:9091`.
        detector: the driver's name for this detector, e.g. `eels`.
        path_provider: a Storage's `path_provider`, or a plain ophyd-async one.
        name: the device's name; it is in every reference, so give no two devices the same.

    Raises:
        ValueError: frames could not be catalogued under this name, e.g. `time`.
    """

    def __init__(self, uri: str, detector: str, *, path_provider: PathProvider, name: str = ""):
        self.uri = uri
        self._detector = detector
        self._paths = as_run_paths(path_provider)
        self._runs = DetectorRuns(self._paths)
        self._use(client_for(uri))
        self._livetime = 0.0
        self.patience = 600.0
        """s that a trigger waits while there is no room for its frame"""
        if self.SUMMARY:
            with self.add_children_as_readables(StandardReadableFormat.CONFIG_SIGNAL):
                self.thumbnail = soft_signal_rw(bool, False)
                """whether events have `<name>-thumbnail`, 64 numbers; set it between runs"""
        super().__init__(name=name, connector=_ServerConnector())

    def set_name(self, name: str, *, child_name_separator: str | None = None) -> None:
        """Name the device and its signals.

        Raises:
            ValueError: frames could not be catalogued under this name.
        """
        check_device_name(name)
        super().set_name(name, child_name_separator=child_name_separator)

    SUMMARY: Mapping[str, tuple[str, int]] = {
        "total": ("counts", 1),
        "mean": ("counts", 3),
        "max": ("counts", 1),
        "saturation_fraction": ("", 4),
    }
    """units and decimal places of the numbers that events have of a frame, as `<name>-total`; see
    `summary.summarise`. Empty where the detector only flies: there are no events then."""
    DIMS: tuple[str, ...] = ()
    """names of a frame's dimensions, e.g. `("energy",)`"""
    LIVETIME: str | None = None
    """the option that a `TriggerInfo.livetime` sets; None if it sets none"""

    @abstractmethod
    async def _options(self) -> dict[str, Any]:
        """Return the exposure's options, as the driver's `expose` takes them."""

    @abstractmethod
    def _duration(self, options: dict[str, Any]) -> float:
        """Return the time that an exposure with these options should take, in s."""

    # -- what the RunEngine calls --

    @AsyncStatus.wrap
    async def stage(self) -> None:
        """Forget an unfinished frame of an earlier run."""
        await super().stage()
        await self._end()
        self._step_scan.reset()
        self._runs.reset()
        self._livetime, self._fly_scan.active = 0.0, False

    @AsyncStatus.wrap
    async def unstage(self) -> None:
        """End a running exposure or fly scan: the instrument must not continue after the plan."""
        await self._end()
        await super().unstage()

    async def stop(self, success: bool = True) -> None:
        """End a running exposure or fly scan; what was captured can still be collected."""
        await self._end()

    @WatchableAsyncStatus.wrap
    async def trigger(self) -> AsyncIterator[WatcherUpdate[float]]:
        """Expose; done when the frame is in the acquisition server's spool.

        Waits while there is no room for the frame, or no disk for its documents; watchers of the
        status receive the reason, with the fill level.

        Raises:
            FrameMismatch: the frame, or `thumbnail`, does not fit this run's descriptor.
            ServerUnreachable: the acquisition server does not answer.
            SpoolFull: there was no room for `patience` seconds.
            ValueError: this run's frames become one array, as a fly scan has declared.
        """
        await self._end()
        self._fly_scan.active = False
        attempt, run = self._step_scan.attempt, self._runs.current(self.name)
        run.check_update({})
        thumbnail = await self._wants_thumbnail()
        run.check_thumbnail(thumbnail)
        run.update = {}
        options, duration = await self._exposure(self._livetime)
        request = ExposureRequest(options=options, duration=duration, thumbnail=thumbnail)
        async for update in self._step_scan.trigger(attempt, run, request, self.patience):
            yield update

    async def read(self) -> dict[str, Reading]:
        """Return the reference and its frame's summary, with the time the exposure ended.

        Raises:
            RuntimeError: there is no new frame; a reference belongs to one event.
        """
        readings = self._step_scan.readings(self.name, self.SUMMARY)
        return {**await super().read(), **readings}

    async def describe(self) -> dict[str, DataKey]:
        """Describe the frames; from then on every frame of the run must fit."""
        if self._fly_scan.active:  # a plan that declares its stream without `collect=True`
            return {**await super().describe(), **await self.describe_collect()}
        run = None if self._paths.run is None else self._runs.current(self.name)
        frames = self._step_scan.description(run) or await self._expected()
        self._runs.promise(self.name, (frames.shape, frames.dtype), frames.thumbnail)
        keys = frames.data_keys(self.name, self.uri, self.SUMMARY)
        return {**await super().describe(), **keys}

    async def collect_asset_docs(
        self, index: int | None = None
    ) -> AsyncIterator[Asset | StreamAsset]:
        """Yield the documents of the frame just read, or of a fly scan's new frames.

        The resource, or stream resource, comes once.
        """
        if self._fly_scan.active:
            async for document in self._fly_scan.assets(index):
                yield document
            return
        for document in self._step_scan.assets():
            yield document  # type: ignore (names and documents belong together)

    @AsyncStatus.wrap
    async def prepare(self, value: TriggerInfo) -> None:
        """Prepare a fly scan of `number_of_events` frames.

        A `MapInfo` makes it a map; its mode, or an `UpdateInfo`'s, says what array the frames
        become. With one event, prepare for triggers of that `livetime`, in s (0: as it is set).

        Raises:
            ValueError: this fly scan is not possible; the message names what is.
        """
        await self._end()
        if not is_fly_scan(value):
            self._livetime = value.livetime
            return
        options, duration = await self._exposure(value.livetime)
        await self._fly_scan.arm(value, self._runs.current(self.name), options, duration)

    @AsyncStatus.wrap
    async def kickoff(self) -> None:
        """Begin the fly scan; detectors of one server that were prepared begin together.

        Raises:
            RuntimeError: it was not prepared since its last fly scan.
        """
        await self._fly_scan.kickoff()

    @WatchableAsyncStatus.wrap
    async def complete(self) -> AsyncIterator[WatcherUpdate[int]]:
        """Report the fly scan's progress; done when its last frame is in the spool.

        Raises:
            RuntimeError: it ended early.
            SpoolFull: there was no room for `patience` seconds.
        """
        async for update in self._fly_scan.complete(self.patience):
            yield update

    async def describe_collect(self) -> dict[str, DataKey]:
        """Describe the frames of a fly scan."""
        options = self._fly_scan.options or await self._options()
        frame, dtype = await self._server.layout(self._detector, options)
        shape = [*self._fly_scan.line, *frame]
        if self._paths.run is not None:
            self._runs.current(self.name).described_flown = shape, dtype
        dims = self._dims(len(frame))
        if self._fly_scan.line:
            dims = ["scan_x" if "x" in dims else "x", *dims]
        key = _documents.data_key(self.name, self.uri, shape, dtype, dims, flown=True)
        return {self.name: key}

    async def get_index(self) -> int:
        """Return the number of events captured in this fly scan: frames, or lines of a map."""
        return await self._fly_scan.index()

    @property
    def flown(self) -> str | None:
        """The reference of the last frame collected in a fly scan; it is stored last, too."""
        return None if self._fly_scan.last is None else str(self._fly_scan.last)

    @property
    def latency(self) -> float:
        """S from the end of the last exposure to its reference, by both PCs' clocks."""
        return self._step_scan.latency

    async def pause(self) -> None:
        """Pause a fly scan after the current row.

        In a step scan, emit the last documents again: the RunEngine drops those of a point it
        interrupts.
        """
        await self._server.hold()
        self._step_scan.emit_again()

    async def resume(self) -> None:
        """Resume a fly scan; in a step scan the RunEngine triggers again."""
        self._server.resume_soon()

    async def preflight(self, frames: int, livetime: float = 0.0) -> None:
        """Check that this number of frames can be kept; see `plan_stubs.preflight`.

        Raises:
            NotEnoughSpace: they would not fit on the storage disk.
            ValueError: a single one does not fit into the acquisition server's spool.
        """
        options, _ = await self._exposure(livetime)
        size = await self._server.preflight(self._detector, options)
        await asyncio.to_thread(self._paths.check_room, frames * size)

    def why_unreadable(self, path: Path) -> str:
        """Return why Tiled may not read a file of another detector; empty if it may."""
        return self._paths.why_unreadable(path)

    @property
    def hints(self) -> Hints:
        """The total counts, to be plotted; nothing in a fly scan, which has no events."""
        plotted = "total" in self.SUMMARY and not self._fly_scan.active
        return {"fields": [f"{self.name}-total"] if plotted else []}

    # -- inside --

    def _use(self, server: InstrumentClient) -> None:
        self._server = server
        self._step_scan = StepScan(server, self._detector, self._paths)
        self._fly_scan = FlyScan(server, self._detector)

    async def _end(self) -> None:
        """End whatever runs; a trigger that still waits is superseded."""
        await self._step_scan.end()
        await self._fly_scan.end()

    def _dims(self, dimensions: int) -> list[str]:
        fits = len(self.DIMS) == dimensions
        return [*self.DIMS] if fits else [f"dim_{i}" for i in range(dimensions)]

    async def _wants_thumbnail(self) -> bool:
        return bool(self.SUMMARY) and await self.thumbnail.get_value()

    async def _expected(self) -> FrameDescription:
        """Describe the frames that `trigger` would take now."""
        shape, dtype = await self._server.layout(self._detector, await self._options())
        dims = self._dims(len(shape))
        thumbnail = await self._wants_thumbnail()
        return FrameDescription(shape=shape, dtype=dtype, dims=dims, thumbnail=thumbnail)

    async def _exposure(self, livetime: float) -> tuple[dict[str, Any], float]:
        """Return the options of an exposure, and how long it should take, in s."""
        options = await self._options()
        if livetime:
            if self.LIVETIME is None:
                raise ValueError(
                    f"{self.name} has no time that livetime could set: set its signals instead"
                )
            options[self.LIVETIME] = livetime
        return options, min(max(0.0, self._duration(options)), DURATION_LIMIT)  # 0 if it is NaN


class _ServerConnector(DeviceConnector):
    """Connects to the acquisition server before the signals do: one error instead of many."""

    async def connect_mock(self, device: Device, mock: DeviceMock) -> None:
        assert isinstance(device, RefDetector)
        device._use(MockServer(device.uri))  # noqa: SLF001 (its own connector)
        await super().connect_mock(device, mock)

    async def connect_real(self, device: Device, timeout: float, force_reconnect: bool) -> None:
        assert isinstance(device, RefDetector)
        try:
            await client_for(device.uri).identity(timeout=timeout)
        except ServerUnreachable as exc:
            raise NotConnectedError(str(exc)) from exc
        await super().connect_real(device, timeout, force_reconnect)
