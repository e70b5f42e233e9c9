"""A look-alike of `autoscript_tem_microscope_client`, as far as the driver uses it."""

# The names and their meaning are the vendor's; the classes of one module know each other.
# ruff: noqa: D102, SLF001
from __future__ import annotations

import functools
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np

from ._beam import Beam, BeamState
from ._images import camera_image, diffraction_pixel_size, scan_image
from ._sample import Sample
from ._structures import (
    AdornedImage,
    ApiException,
    ApplicationServerException,
    CameraAcquisitionSettings,
    CameraLengthData,
    Limits,
    Point,
    StagePosition,
    StemAcquisitionSettings,
    enumerations,
    image_metadata,
    structures,
)

CALL = 6e-3  # s; each of these times was read from logs of a real instrument
UNBLANK = 115e-3
BLANK = 12e-3
VALVES = 980e-3
STAGE_MOVE = 0.3  # s
JITTER = 1e-3  # of the scan; the beam position reads back a little off

SCANNING_DETECTORS = ["HAADF", "DF4", "DF2", "BF"]
CAMERAS = ["BM-Ceta", "Flucam"]
CAMERA_LENGTHS = [0.06, 0.098, 0.135, 0.185, 0.3, 0.46]  # m

_AXES = {"x": "stage_x", "y": "stage_y", "z": "stage_z", "a": "stage_alpha", "b": "stage_beta"}

P = ParamSpec("P")
R = TypeVar("R")
N = TypeVar("N", bound="_Node")


class Server:
    """The simulated microscope behind every client; its plain attributes inject faults."""

    def __init__(self, beam: Beam, *, seed: int, latency: bool) -> None:
        self.beam = beam
        self.sample = Sample(seed)
        self.rng = np.random.default_rng([seed, 6])
        self.latency = latency
        self.valves_refuse = False
        """Fault switch: the column valves stay closed, as with bad vacuum."""
        self.acquisition_fails = False
        """Fault switch: acquiring an image raises."""
        self.stage_moving = False
        self.holder = "DoubleTilt"
        """``SingleTilt`` has no beta."""
        self.stage_limits = {
            "x": Limits(-1e-3, 1e-3),
            "y": Limits(-1e-3, 1e-3),
            "z": Limits(-0.4e-3, 0.4e-3),
            "a": Limits(-1.2, 1.2),
            "b": Limits(-0.5, 0.5),
        }
        self.old_names = False
        """True: an older server, without `optics.blanker` and `optics.focusing`."""

    def spend(self, seconds: float) -> None:
        """Take as long as the real microscope."""
        if self.latency:
            time.sleep(seconds)

    def hold_until(self, deadline: float) -> None:
        """Wait until a time of `time.perf_counter`, after everything has been computed."""
        if self.latency:
            time.sleep(max(0.0, deadline - time.perf_counter()))


class _Node:
    """A branch of the client; reading or writing a leaf is one call to the server."""

    def __init__(self, client: TemMicroscopeClient) -> None:
        self._client = client

    @property
    def _server(self) -> Server:
        return self._client._server


def remote(function: Callable[Concatenate[N, P], R]) -> Callable[Concatenate[N, P], R]:
    """Turn a method into a call to the server: it takes time, and needs a connection."""

    @functools.wraps(function)
    def call(self: N, *args: P.args, **kwargs: P.kwargs) -> R:
        self._client._call()
        return function(self, *args, **kwargs)

    return call


class _Field:
    """A leaf that is one field of the beam state, as a float."""

    def __init__(self, name: str, *, writable: bool = True) -> None:
        self._name, self._writable = name, writable

    def __get__(self, node: _Node, owner: type) -> float:
        node._client._call()
        return getattr(node._server.beam.now, self._name)

    def __set__(self, node: _Node, value: float) -> None:
        if not self._writable:
            raise AttributeError(f"{self._name} cannot be set.")
        node._client._call()
        node._server.beam.change(**{self._name: float(value)})


class Blanker(_Node):
    """`optics.blanker`."""

    @property
    @remote
    def is_beam_blanked(self) -> bool:
        return self._server.beam.now.blanked

    @remote
    def blank(self) -> None:
        self._server.beam.change(blanked=True)
        self._server.spend(BLANK - CALL)

    @remote
    def unblank(self) -> None:
        self._server.spend(UNBLANK - CALL)
        self._server.beam.change(blanked=False)


class StemObjective(_Node):
    """`optics.focusing.stem.objective`."""

    defocus = _Field("defocus")


class CameraLength(_Node):
    """`optics.camera_length`."""

    @property
    @remote
    def value(self) -> CameraLengthData:
        return _camera_length(self._server.beam.now.camera_length)

    @value.setter
    @remote
    def value(self, value: CameraLengthData) -> None:
        if value.nominal not in CAMERA_LENGTHS:
            raise ApplicationServerException(f"Camera length {value.nominal} is not available.")
        self._server.beam.change(camera_length=value.nominal)

    @property
    @remote
    def available_values(self) -> list[CameraLengthData]:
        return [_camera_length(length) for length in CAMERA_LENGTHS]


def _camera_length(length: float) -> CameraLengthData:
    return CameraLengthData(length, length, f"{length * 1e3:.0f} mm")


class Optics(_Node):
    """`optics`."""

    scan_field_of_view = _Field("field_of_view")
    scan_rotation = _Field("scan_rotation")

    def __init__(self, client: TemMicroscopeClient) -> None:
        super().__init__(client)
        blanker, objective = Blanker(client), StemObjective(client)
        if client._server.old_names:
            self.blank, self.unblank = blanker.blank, blanker.unblank
        else:
            self.blanker = blanker
            self.focusing = SimpleNamespace(stem=SimpleNamespace(objective=objective))
        self._blanker, self._objective = blanker, objective
        self.camera_length = CameraLength(client)

    @property
    def is_beam_blanked(self) -> bool:
        return self._blanker.is_beam_blanked

    @property
    def defocus(self) -> float:
        return self._objective.defocus

    @defocus.setter
    def defocus(self, value: float) -> None:
        self._objective.defocus = value

    @property
    @remote
    def optical_mode(self) -> str:
        return "Stem"

    @property
    @remote
    def convergence_angle(self) -> float:
        return 21e-3

    @property
    @remote
    def paused_scan_beam_position(self) -> Point:
        now = self._server.beam.now
        dx, dy = self._server.rng.normal(0, JITTER, 2)
        return Point(now.x + float(dx), now.y + float(dy))

    @paused_scan_beam_position.setter
    @remote
    def paused_scan_beam_position(self, value: Any) -> None:
        x, y = (value.x, value.y) if hasattr(value, "x") else value
        self._server.beam.change(x=float(x), y=float(y))


class Acquisition(_Node):
    """`acquisition`."""

    @remote
    def acquire_stem_image(self, detector: str, size: int, dwell_time: float) -> AdornedImage:
        return self._scan(StemAcquisitionSettings(dwell_time, [detector], size=size))[0]

    @remote
    def acquire_stem_images_advanced(self, settings: StemAcquisitionSettings) -> list[AdornedImage]:
        return self._scan(settings)

    @remote
    def acquire_camera_image(
        self, camera_detector: str, size: int, exposure_time: float
    ) -> AdornedImage:
        return self._camera(CameraAcquisitionSettings(camera_detector, size, exposure_time))

    @remote
    def acquire_camera_image_advanced(self, settings: CameraAcquisitionSettings) -> AdornedImage:
        return self._camera(settings)

    def _scan(self, settings: StemAcquisitionSettings) -> list[AdornedImage]:
        began, state = time.perf_counter(), self._begin()
        area = settings.region.rectangle if settings.region else structures.Rectangle(0, 0, 1, 1)
        region = (area.left, area.top, area.width, area.height)
        images = [
            scan_image(
                self._server.sample,
                state,
                detector,
                size=settings.size,
                dwell=settings.dwell_time,
                region=region,
                rng=self._server.rng,
            )
            for detector in settings.detector_types
        ]
        metadata = [self._scan_metadata(state, d, settings) for d in settings.detector_types]
        adorned = [AdornedImage(i, m) for i, m in zip(images, metadata, strict=True)]
        self._server.hold_until(began + settings.dwell_time * images[0].size)
        return adorned

    def _camera(self, settings: CameraAcquisitionSettings) -> AdornedImage:
        began, state = time.perf_counter(), self._begin()
        exposure = settings.exposure_time
        data = camera_image(
            self._server.sample,
            state,
            size=settings.size,
            exposure=exposure,
            rng=self._server.rng,
        )
        metadata = image_metadata(
            detector=settings.camera_detector,
            pixel_size=diffraction_pixel_size(state.camera_length, settings.size),
            unit="1/m",
            high_tension=state.high_tension,
            stage=_stage_position(state),
            optics=SimpleNamespace(defocus=state.defocus),
        )
        self._server.hold_until(began + exposure)
        return AdornedImage(data, metadata)

    def _begin(self) -> BeamState:
        if self._server.acquisition_fails:
            raise ApplicationServerException("Acquisition failed.")
        return self._server.beam.now

    @staticmethod
    def _scan_metadata(state: BeamState, detector: str, settings: StemAcquisitionSettings) -> Any:
        return image_metadata(
            detector=detector,
            pixel_size=state.field_of_view / settings.size,
            unit="m",
            high_tension=state.high_tension,
            stage=_stage_position(state),
            optics=SimpleNamespace(defocus=state.defocus),
            scan_settings=SimpleNamespace(
                dwell_time=settings.dwell_time, scan_rotation=state.scan_rotation
            ),
        )


def _stage_position(state: BeamState) -> StagePosition:
    return StagePosition(**{axis: getattr(state, name) for axis, name in _AXES.items()})


class Stage(_Node):
    """`specimen.stage`."""

    @property
    @remote
    def position(self) -> StagePosition:
        position = _stage_position(self._server.beam.now)
        if self._server.holder == "SingleTilt":
            position.b = None
        return position

    @property
    @remote
    def is_moving(self) -> bool:
        return self._server.stage_moving

    @remote
    def get_axis_limits(self, axis: str) -> Limits:
        return self._server.stage_limits[axis]

    @remote
    def get_holder_type(self) -> str:
        return self._server.holder

    @remote
    def absolute_move(self, position: StagePosition) -> None:
        goals = {axis: getattr(position, axis) for axis in _AXES}
        goals = {axis: goal for axis, goal in goals.items() if goal is not None}
        for axis, goal in goals.items():
            limits = self._server.stage_limits[axis]
            if not limits.min <= goal <= limits.max:
                raise ApplicationServerException(f"Stage axis {axis} cannot reach {goal}.")
        self._server.spend(STAGE_MOVE)
        self._server.beam.change(**{_AXES[axis]: float(goal) for axis, goal in goals.items()})

    def absolute_move_safe(self, position: StagePosition) -> None:
        self.absolute_move(position)


class Detectors(_Node):
    """`detectors`."""

    @property
    @remote
    def scanning_detectors(self) -> list[str]:
        return list(SCANNING_DETECTORS)

    @property
    @remote
    def camera_detectors(self) -> list[str]:
        return list(CAMERAS)


class ColumnValves(_Node):
    """`vacuum.column_valves`."""

    @property
    @remote
    def state(self) -> str:
        return "Opened" if self._server.beam.now.valves_open else "Closed"

    @remote
    def open(self) -> None:
        if self._server.valves_refuse:
            raise ApplicationServerException("Column valves cannot be opened.")
        self._server.spend(VALVES)
        self._server.beam.change(valves_open=True)

    @remote
    def close(self) -> None:
        self._server.spend(VALVES)
        self._server.beam.change(valves_open=False)


class Vacuum(_Node):
    """`vacuum`."""

    def __init__(self, client: TemMicroscopeClient) -> None:
        super().__init__(client)
        self.column_valves = ColumnValves(client)

    @property
    @remote
    def state(self) -> str:
        return "Ready"


class AccelerationVoltage(_Node):
    """`source.acceleration_voltage`."""

    value = _Field("high_tension", writable=False)


class TemMicroscopeClient:
    """The vendor's client; all clients of one module use the same simulated microscope."""

    _server: Server  # given by the module

    def __init__(self) -> None:
        self._connected = False
        self.acquisition = Acquisition(self)
        self.optics = Optics(self)
        self.specimen = SimpleNamespace(stage=Stage(self))
        self.detectors = Detectors(self)
        self.vacuum = Vacuum(self)
        self.source = SimpleNamespace(acceleration_voltage=AccelerationVoltage(self))
        self.service = SimpleNamespace(
            system=SimpleNamespace(
                name="Simulated Spectra", serial_number="SIM-0001", version="simulated"
            ),
            autoscript=SimpleNamespace(
                server=SimpleNamespace(version="1.18", is_offline=True),
                client=SimpleNamespace(version="1.18"),
            ),
        )

    def connect(self, host: str = "localhost", port: int = 7521) -> None:
        """Connect; any host and port reach the same simulated microscope."""
        self._server.spend(CALL)
        self._connected = True

    def disconnect(self) -> None:
        self._connected = False

    def _call(self) -> None:
        if not self._connected:
            raise ApiException("Cannot perform a call because the client is not running.")
        self._server.spend(CALL)


class Autoscript:
    """The module itself: the client, its structures and enumerations, and its errors.

    Make bad things happen through `server`, e.g. ``module.server.valves_refuse = True``.
    """

    def __init__(self, beam: Beam, *, seed: int = 7, latency: bool = True) -> None:
        self.server = Server(beam, seed=seed, latency=latency)
        self.structures = structures
        self.enumerations = enumerations
        self.ApplicationServerException = ApplicationServerException
        self.ApiException = ApiException
        self.TemMicroscopeClient = type(
            "TemMicroscopeClient", (TemMicroscopeClient,), {"_server": self.server}
        )
