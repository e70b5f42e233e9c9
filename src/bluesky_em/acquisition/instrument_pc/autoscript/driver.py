"""Drive a Thermo Fisher microscope through AutoScript.

Python 3.7 syntax, NumPy and the standard library only: it runs in AutoScript's own interpreter. The
vendor module is handed in, so the same code runs on the look-alike in `acquisition.sim`. A call to
the microscope costs about 6 ms and blocks; so calls are few, and made by one thread at a time.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
import re
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from ..exposure import Exposure, Rows
from ..fly_scan import burst
from ..limits import in_limits, one_of

DWELL_LIMITS = (1e-9, 1e-2)  # s per pixel
SCAN_TIME_MAX = 600.0  # s; a longer scan is a mistake, and its dose with it
CAMERA_EXPOSURE_LIMITS = (1e-7, 10.0)  # s
SCAN_SIZES = (128, 256, 512, 1024, 2048, 4096)  # px
CAMERA_SIZES = (512, 1024, 2048, 4096)  # px
FIELD_OF_VIEW_LIMITS = (1e-9, 1e-3)  # m
DEFOCUS_LIMITS = (-1e-4, 1e-4)  # m
TILT_CAPS = {"a": math.radians(35.0), "b": math.radians(20.0)}  # rad, whatever the stage allows
READ_BACK_STRAY = 0.02  # of the scan; the beam position reads back a little off
PARK_PATIENCE = 5.0  # s to wait for a running call before blanking anyway

_STAGE_AXES = {
    "stage_x": "x",
    "stage_y": "y",
    "stage_z": "z",
    "stage_alpha": "a",
    "stage_beta": "b",
}
_OPTIONS = {
    "scan_image": ("detector", "size", "dwell", "region"),
    "camera_image": ("camera", "size", "exposure"),
}
_log = logging.getLogger(__name__)


class _Setting(NamedTuple):
    """How one setting is described, read and written."""

    units: str
    dtype: str
    read: Callable[[], Any]
    write: Optional[Callable[[Any], None]] = None
    limits: Optional[Callable[[], List[float]]] = None
    choices: Optional[Callable[[], List[Any]]] = None


class _Scan(NamedTuple):
    """Checked options of a scan image; region in fractions of the scan."""

    detector: str
    size: int
    dwell: float
    region: Tuple[float, float, float, float]

    @property
    def shape(self) -> Tuple[int, int]:
        width, height = self.region[2:]
        return max(1, round(height * self.size)), max(1, round(width * self.size))


class _Camera(NamedTuple):
    """Checked options of a camera image."""

    camera: str
    size: int
    exposure: float

    @property
    def shape(self) -> Tuple[int, int]:
        return self.size, self.size


class MicroscopeDriver:
    """One microscope, connected from the beginning.

    Args:
        autoscript_module: `autoscript_tem_microscope_client`, or its look-alike.
        host: where the AutoScript server runs.
        port: its port.
    """

    FIXED_IN_FLIGHT = ()  # its images tell each their own calibration

    def __init__(self, autoscript_module: Any, host: str = "localhost", port: int = 7521) -> None:
        self._structures = _part(autoscript_module, "structures")
        self._enumerations = _part(autoscript_module, "enumerations")
        self._simulated = type(autoscript_module).__module__.startswith(
            "bluesky_em.acquisition.sim"
        )
        self._client = autoscript_module.TemMicroscopeClient()
        self._lock = threading.RLock()
        self._aborted = threading.Event()
        self._beam_target = None  # type: Optional[Tuple[float, float]]
        self._dtypes = {"scan_image": "<u2", "camera_image": "<u2"}
        with self._telling("connect to AutoScript at {}:{}".format(host, port)):
            self._client.connect(host, port)
            self._scanning_detectors = [str(d) for d in self._client.detectors.scanning_detectors]
            self._cameras = [str(d) for d in self._client.detectors.camera_detectors]
        self._settings = self._describe()

    def identity(self) -> Dict[str, Any]:
        """Say which microscope this is."""
        with self._calling("read its identity"):
            system, autoscript = self._client.service.system, self._client.service.autoscript
            return {
                "vendor": "Thermo Fisher",
                "name": str(system.name),
                "serial_number": str(system.serial_number),
                "version": str(system.version),
                "autoscript": str(autoscript.server.version),
                "offline": bool(autoscript.server.is_offline),
                "simulated": self._simulated,
            }

    def get(self, name: str) -> Any:
        """Read a setting from the microscope."""
        setting = self._setting(name)
        with self._calling("read {}".format(name)):
            return setting.read()

    def set(self, name: str, value: Any) -> Any:
        """Change a setting and return what the microscope reads back.

        Raises:
            ValueError: the value is not allowed; the message says what is.
            RuntimeError: the microscope refuses.
        """
        setting = self._setting(name)
        if setting.write is None:
            raise ValueError("{} can be read but not set.".format(name))
        with self._calling("set {} to {!r}".format(name, value)):
            if setting.limits is not None:
                low, high = setting.limits()
                value = in_limits(name, value, (low, high), setting.units)
            setting.write(value)
            return setting.read()

    def settings(self) -> Dict[str, Dict[str, Any]]:
        """Describe every setting; limits and choices are the microscope's own where it has any."""
        with self._calling("describe its settings"):
            return {
                name: {
                    "units": s.units,
                    "dtype": s.dtype,
                    "writable": s.write is not None,
                    "limits": s.limits() if s.limits is not None else None,
                    "choices": s.choices() if s.choices is not None else None,
                }
                for name, s in self._settings.items()
            }

    def layout(self, detector: str, options: Mapping[str, Any]) -> Tuple[Tuple[int, ...], str]:
        """Return shape and dtype of the frame that `expose` would give."""
        return self._check_options(detector, options).shape, self._dtypes[detector]

    def expose(self, detector: str, options: Mapping[str, Any]) -> Exposure:
        """Take an image with the beam on only meanwhile; blocks until it has ended.

        Options of scan_image: detector (default HAADF), size in pixels along the whole scan (128 to
        4096, default 512), dwell (s, default 1e-6), region (left, top, width, height in fractions
        of the scan, default all of it). Options of camera_image: camera (default the first), size
        in pixels (512 to 4096, default 512), exposure (s, default 0.1).

        Raises:
            ValueError: an option is not allowed.
            RuntimeError: the microscope refuses, or the exposure was aborted. The beam is blanked.
        """
        checked = self._check_options(detector, options)
        with self._calling("take a {}".format(detector)):
            self._aborted.clear()
            with self._beam_on():
                if self._aborted.is_set():
                    raise RuntimeError("The exposure was aborted before it began; no image.")
                started = time.time()
                image = self._acquire(checked)
                ended = time.time()
            array = _little_endian(image.data)
            self._dtypes[detector] = array.dtype.str
            axes = _axes(image, array.shape, checked)
            return Exposure(array, axes, _metadata(image, checked, axes), started, ended)

    def check_flight(
        self, detector: str, options: Mapping[str, Any], scan: Optional[Mapping[str, Any]]
    ) -> None:
        """Refuse a flight that cannot be made (ValueError); nothing moves."""
        self._check_options(detector, options)
        if scan is not None:
            raise ValueError(
                "{} cannot take a map: here each frame scans by itself. Maps are taken by the "
                "spectrometer".format(detector)
            )

    def fly(
        self,
        orders: Mapping[str, Mapping[str, Any]],
        count: int,
        scan: Optional[Mapping[str, Any]] = None,
    ) -> Rows:
        """Take so many frames one after another; as `expose` each, shape (1, *frame)."""
        return burst(self, orders, count)

    def abort(self) -> None:
        """End an exposure that has not begun; AutoScript's acquire call cannot be interrupted.

        A running acquisition completes, its image is kept, and the beam is blanked as always.
        """
        self._aborted.set()

    def park(self) -> None:
        """Blank the beam, even while another call hangs; never raises, a failure is logged."""
        got_lock = self._lock.acquire(timeout=PARK_PATIENCE)
        try:
            self._blank(True)
        except Exception as exc:
            _log.error("The beam could not be blanked while parking: %s", exc)
        finally:
            if got_lock:
                self._lock.release()

    # -- calling the vendor

    @contextlib.contextmanager
    def _calling(self, what: str) -> Iterator[None]:
        """Hold the connection, and say in the error what was being done."""
        with self._lock, self._telling(what):
            yield

    @contextlib.contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        try:
            yield
        except (ValueError, RuntimeError):
            raise
        except Exception as exc:
            raise RuntimeError(
                "The microscope did not {}: {}: {}. Look at its user interface and at the "
                "AutoScript server; if the connection is lost, restart this acquisition "
                "server.".format(what, type(exc).__name__, str(exc).rstrip("."))
            ) from exc

    # -- settings

    def _setting(self, name: str) -> _Setting:
        if name not in self._settings:
            raise ValueError(
                "There is no setting '{}'. This microscope has: {}.".format(
                    name, ", ".join(self._settings)
                )
            )
        return self._settings[name]

    def _describe(self) -> Dict[str, _Setting]:
        c, optics = self._client, self._client.optics
        table = {
            "beam_x": _Setting(
                "", "float", lambda: self._beam().x, lambda v: self._move_beam(x=v), _unit_range
            ),
            "beam_y": _Setting(
                "", "float", lambda: self._beam().y, lambda v: self._move_beam(y=v), _unit_range
            ),
            "beam_blanked": _Setting("", "bool", self._is_blanked, self._set_blanked),
            "field_of_view": _Setting(
                "m",
                "float",
                lambda: float(optics.scan_field_of_view),
                lambda v: setattr(optics, "scan_field_of_view", v),
                lambda: list(FIELD_OF_VIEW_LIMITS),
            ),
            "defocus": _Setting(
                "m",
                "float",
                lambda: float(self._focus().defocus),
                lambda v: setattr(self._focus(), "defocus", v),
                lambda: list(DEFOCUS_LIMITS),
            ),
            "camera_length": _Setting(
                "m",
                "float",
                lambda: _nominal(optics.camera_length.value),
                self._set_camera_length,
                choices=lambda: [_nominal(v) for v in optics.camera_length.available_values],
            ),
            "scan_rotation": _Setting(
                "rad",
                "float",
                lambda: float(optics.scan_rotation),
                lambda v: setattr(optics, "scan_rotation", v),
                lambda: [-2 * math.pi, 2 * math.pi],
            ),
            "high_tension": _Setting("V", "float", self._high_tension),
            "convergence_angle": _Setting("rad", "float", lambda: float(optics.convergence_angle)),
            "optical_mode": _Setting("", "str", lambda: str(optics.optical_mode)),
            "vacuum_state": _Setting("", "str", lambda: str(c.vacuum.state)),
            "column_valves": _Setting("", "str", lambda: str(c.vacuum.column_valves.state)),
            "holder": _Setting("", "str", lambda: str(c.specimen.stage.get_holder_type())),
        }
        for name, axis in _STAGE_AXES.items():
            table[name] = self._stage_setting(name, axis)
        return table

    def _stage_setting(self, name: str, axis: str) -> _Setting:
        return _Setting(
            "rad" if axis in TILT_CAPS else "m",
            "float",
            lambda: _or_nan(getattr(self._client.specimen.stage.position, axis)),
            lambda value: self._move_stage(name, axis, value),
            lambda: self._stage_limits(axis),
        )

    def _beam(self) -> Any:
        position = self._client.optics.paused_scan_beam_position
        return position if hasattr(position, "x") else self._structures.Point(*position)

    def _move_beam(self, x: Optional[float] = None, y: Optional[float] = None) -> None:
        """Move one coordinate; the other stays where it was told to be.

        Writing back what is read would let the other coordinate wander with the read-back's
        jitter; so the last command counts, unless somebody has moved the beam since.
        """
        now = self._beam()
        kept = (_clip(now.x), _clip(now.y))
        target = self._beam_target
        if target is not None and _near(now, target):
            kept = target
        goal = (kept[0] if x is None else x, kept[1] if y is None else y)
        self._client.optics.paused_scan_beam_position = self._structures.Point(*goal)
        self._beam_target = goal

    def _focus(self) -> Any:
        """Return what has a defocus: the objective lens, or the optics of older servers."""
        focusing = getattr(self._client.optics, "focusing", None)
        return self._client.optics if focusing is None else focusing.stem.objective

    def _high_tension(self) -> float:
        source = getattr(self._client, "source", None)
        voltage = getattr(source, "acceleration_voltage", None)
        if voltage is None:
            voltage = self._client.optics.acceleration_voltage
        return float(getattr(voltage, "value", voltage))

    def _set_camera_length(self, value: Any) -> None:
        camera_length = self._client.optics.camera_length
        available = list(camera_length.available_values)
        for choice in available:
            with contextlib.suppress(TypeError, ValueError, OverflowError):  # no number
                if math.isclose(_nominal(choice), float(value), rel_tol=1e-6):
                    camera_length.value = choice
                    return
        raise ValueError(
            "camera_length is {!r} m; it must be one of {} m.".format(
                value, ", ".join("{:.6g}".format(_nominal(v)) for v in available)
            )
        )

    # -- the beam

    def _is_blanked(self) -> bool:
        optics = self._client.optics
        return bool(getattr(optics, "blanker", optics).is_beam_blanked)

    def _set_blanked(self, value: Any) -> None:
        if not isinstance(value, (bool, np.bool_)):
            raise ValueError("beam_blanked is {!r}; give True or False.".format(value))
        self._blank(bool(value))

    def _blank(self, blanked: bool) -> None:
        optics = self._client.optics
        blanker = getattr(optics, "blanker", optics)
        blanker.blank() if blanked else blanker.unblank()

    @contextlib.contextmanager
    def _beam_on(self) -> Iterator[None]:
        """Unblank for a while: blank again if it was blanked, and always when something fails."""
        blank_after = True
        try:
            was_blanked = self._is_blanked()
            if was_blanked:
                self._blank(False)
            yield
            blank_after = was_blanked
        finally:
            if blank_after:
                self._blank(True)

    # -- the stage

    def _stage_limits(self, axis: str) -> List[float]:
        limits = self._client.specimen.stage.get_axis_limits(axis)
        cap = TILT_CAPS.get(axis, math.inf)
        return [max(float(limits.min), -cap), min(float(limits.max), cap)]

    def _move_stage(self, name: str, axis: str, value: float) -> None:
        stage = self._client.specimen.stage
        if axis == "b" and str(stage.get_holder_type()) == "SingleTilt":
            raise ValueError(
                "stage_beta cannot be set: the holder is SingleTilt. Tilt with stage_alpha, or "
                "insert a double-tilt holder."
            )
        if stage.is_moving:
            raise RuntimeError(
                "The stage is moving already, so {} was not set. Wait until it has stopped.".format(
                    name
                )
            )
        goal = dict.fromkeys(_STAGE_AXES.values())  # type: Dict[str, Optional[float]]
        goal[axis] = value
        stage.absolute_move_safe(self._structures.StagePosition(**goal))

    # -- images

    def _check_options(self, detector: str, options: Mapping[str, Any]) -> Any:
        if detector not in _OPTIONS:
            raise ValueError(
                "There is no detector '{}'. This microscope has: {}.".format(
                    detector, ", ".join(_OPTIONS)
                )
            )
        unknown = sorted(set(options) - set(_OPTIONS[detector]))
        if unknown:
            raise ValueError(
                "{} has no option '{}'. Its options are: {}.".format(
                    detector, unknown[0], ", ".join(_OPTIONS[detector])
                )
            )
        return self._scan(options) if detector == "scan_image" else self._camera(options)

    def _scan(self, options: Mapping[str, Any]) -> _Scan:
        dwell = in_limits("dwell", options.get("dwell", 1e-6), DWELL_LIMITS, "s")
        scan = _Scan(
            one_of("detector", options.get("detector", "HAADF"), self._scanning_detectors),
            one_of("size", options.get("size", 512), SCAN_SIZES),
            dwell,
            _region(options.get("region")),
        )
        if min(scan.region[2:]) * scan.size < 0.5:
            raise ValueError(
                "region is {!r}; its width and height must be at least a pixel, that is {:.6g} of "
                "the scan at size {}.".format(options["region"], 1 / scan.size, scan.size)
            )
        seconds = dwell * scan.shape[0] * scan.shape[1]
        if seconds > SCAN_TIME_MAX:
            raise ValueError(
                "A scan of {} x {} pixels at dwell {:.6g} s takes {:.6g} s; {:.6g} s is the limit, "
                "for the specimen's sake. Lower dwell or size.".format(
                    scan.shape[0], scan.shape[1], dwell, seconds, SCAN_TIME_MAX
                )
            )
        return scan

    def _camera(self, options: Mapping[str, Any]) -> _Camera:
        default = self._cameras[0] if self._cameras else ""
        exposure = in_limits("exposure", options.get("exposure", 0.1), CAMERA_EXPOSURE_LIMITS, "s")
        return _Camera(
            one_of("camera", options.get("camera", default), self._cameras),
            one_of("size", options.get("size", 512), CAMERA_SIZES),
            exposure,
        )

    def _acquire(self, options: Any) -> Any:
        acquisition = self._client.acquisition
        if isinstance(options, _Camera):
            return acquisition.acquire_camera_image_advanced(
                self._structures.CameraAcquisitionSettings(
                    camera_detector=options.camera,
                    size=options.size,
                    exposure_time=options.exposure,
                )
            )
        images = acquisition.acquire_stem_images_advanced(
            self._structures.StemAcquisitionSettings(
                dwell_time=options.dwell,
                detector_types=[options.detector],
                region=self._structures.Region(
                    self._enumerations.RegionCoordinateSystem.RELATIVE,
                    self._structures.Rectangle(*options.region),
                ),
                size=options.size,
            )
        )
        return images[0] if isinstance(images, (list, tuple)) else images


def _part(module: Any, name: str) -> Any:
    """Return a submodule, which `import` of the vendor's package alone does not load."""
    part = getattr(module, name, None)
    return importlib.import_module(module.__name__ + "." + name) if part is None else part


def _unit_range() -> List[float]:
    return [0.0, 1.0]


def _clip(fraction: float) -> float:
    return min(max(float(fraction), 0.0), 1.0)


def _near(position: Any, target: Tuple[float, float]) -> bool:
    off = max(abs(position.x - target[0]), abs(position.y - target[1]))
    return off < READ_BACK_STRAY


def _nominal(camera_length: Any) -> float:
    return float(getattr(camera_length, "nominal", camera_length))


def _or_nan(value: Optional[float]) -> float:
    return math.nan if value is None else float(value)


def _region(value: Any) -> Tuple[float, float, float, float]:
    if value is None:
        return 0.0, 0.0, 1.0, 1.0
    try:
        left, top, width, height = (float(v) for v in value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            "region is {!r}; give left, top, width, height in fractions of the scan.".format(value)
        ) from None
    inside = left >= 0 and top >= 0 and left + width <= 1 + 1e-9 and top + height <= 1 + 1e-9
    if not (inside and width > 0 and height > 0):
        raise ValueError(
            "region is {!r}; left, top, width, height must stay inside the scan, which goes from "
            "0 to 1.".format(value)
        )
    return left, top, width, height


def _little_endian(data: Any) -> np.ndarray:
    data = np.ascontiguousarray(data)
    return data.astype(data.dtype.newbyteorder("<"), copy=False)


def _axes(image: Any, shape: Tuple[int, ...], options: Any) -> List[Dict[str, Any]]:
    """Return the y and x axes from the image's pixel size, 0 in the middle of the whole scan."""
    size, units = _pixel_size(image)
    left, top, width, height = getattr(options, "region", (0.0, 0.0, 1.0, 1.0))
    rows, cols = shape
    return [
        _axis("y", units, size[1], rows, (top - 0.5) / height),
        _axis("x", units, size[0], cols, (left - 0.5) / width),
    ]


def _axis(name: str, units: str, scale: float, size: int, edge: float) -> Dict[str, Any]:
    """Return an axis; `edge` is where its first pixel begins, in lengths of the axis."""
    offset = (edge * size + 0.5) * scale
    return {"name": name, "units": units, "offset": offset, "scale": scale, "size": size}


def _pixel_size(image: Any) -> Tuple[Tuple[float, float], str]:
    result = _dig(image.metadata, "binary_result")
    pixel = _dig(result, "pixel_size")
    if pixel is None:
        return (1.0, 1.0), "px"
    units = _dig(result, "pixel_size_x_unit")
    return (float(pixel.x), float(pixel.y)), "m" if units is None else str(units)


def _dig(node: Any, path: str) -> Any:
    """Follow a path of attributes; None where the vendor's metadata ends earlier."""
    for name in path.split("."):
        node = getattr(node, name, None)
    return node


def _metadata(image: Any, options: Any, axes: List[Dict[str, Any]]) -> Dict[str, Any]:
    """Collect what the image brought with it: reading it back later would cost calls, and lie."""
    facts = {"size": options.size, "frames": 1, "signal_type": ""}  # type: Dict[str, Any]
    if isinstance(options, _Scan):
        facts["detector"], facts["dwell_time"] = options.detector, options.dwell
        left, top, width, height = options.region
        facts["region"] = {"left": left, "top": top, "width": width, "height": height}
        facts["exposure"] = options.dwell * axes[0]["size"] * axes[1]["size"]
    else:
        facts["detector"], facts["exposure"] = options.camera, options.exposure
    voltage = re.search(
        r"<AccelerationVoltage>([^<]+)<", str(_dig(image.metadata, "metadata_as_xml"))
    )
    if voltage is not None:
        facts["beam_energy"] = float(voltage.group(1)) / 1e3  # keV
    for name, path in (
        ("defocus", "optics.defocus"),
        ("scan_rotation", "scan_settings.scan_rotation"),
    ):
        value = _dig(image.metadata, path)
        if value is not None:
            facts[name] = float(value)
    position = _dig(image.metadata, "stage_settings.stage_position")
    if position is not None:
        facts["stage"] = {
            name: float(getattr(position, axis))
            for name, axis in _STAGE_AXES.items()
            if getattr(position, axis, None) is not None
        }
    return facts
