"""Drive a Gatan spectrometer from inside DigitalMicrograph.

Python 3.7 syntax, NumPy and the standard library only: GMS brings its own interpreter. The vendor
module is handed in, so the same code runs on the look-alike in `acquisition.sim`. The filter has no
Python functions: it is driven by DM-Script, whose results come back through the persistent tags.
"""

from __future__ import annotations

import math
import threading
import time
from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np

from ..exposure import Exposure, Rows
from ..fly_scan import burst
from ..limits import in_limits, one_of
from .scan import axis, check_scan, map_axes

EXPOSURE_LIMITS = (1e-6, 5.0)  # s
FRAME_LIMITS = (1, 1000)
ENERGY_TOLERANCE = 0.1  # eV; smaller changes are not worth a settling time
ZERO_LOSS_CHANNEL = 200  # GMS puts energy loss 0 this many channels into the spectrum
SPECTROSCOPY = 0  # filter mode
DISPERSIONS = {1: 1.0, 2: 0.5, 3: 0.25, 4: 0.1, 5: 0.05, 6: 0.025, 7: 0.01}  # eV/channel
APERTURES = {0: "2.5 mm", 1: "5 mm"}
SENSOR_ROWS = (894, 1154)  # the rows the spectrum falls on, as GMS reads them
VERTICAL_BINNING = 130

ADF_DTYPE = "<f4"

_TAGS = "bluesky-em"  # the branch of the persistent tags that belongs to us
_FUNCTIONS = (
    "IFCGetFilterMode",
    "IFIsInEELSMode",
    "IFGetEnergyLoss",
    "IFSetEnergyLoss",
    "IFWaitForFilter",
    "IFCGetActiveDispersion",
    # Not in public code that ran on hardware; used only where the spectrometer has one, and
    # believed only after reading back.
    "IFCSetActiveDispersion",
    "IFCSetActiveDispersions",
    "IFCGetAperture",
    "IFCSetAperture",
)
_READABLE = {
    "energy_offset": ("IFGetEnergyLoss",),
    "dispersion": ("IFCGetActiveDispersion",),
    "aperture": ("IFCGetAperture",),
    "mode": ("IFCGetFilterMode", "IFIsInEELSMode"),
}
_DISPERSION_SETTERS = ("IFCSetActiveDispersion", "IFCSetActiveDispersions")
_METADATA_TAGS = {  # of an acquired image; absent ones are left out
    "beam_energy": ("Microscope Info:Voltage", 1e-3),  # keV
    "beam_current": ("Microscope Info:Probe Current (nA)", 1.0),  # nA
    "camera_length": ("Microscope Info:STEM Camera Length", 1.0),  # mm
    "convergence_angle": (
        "EELS:Experimental Conditions:Convergence semi-angle (mrad)",
        1.0,
    ),
    "collection_angle": (
        "EELS:Experimental Conditions:Collection semi-angle (mrad)",
        1.0,
    ),
    "saturation_fraction": ("EELS:Acquisition:Saturation fraction", 1.0),
}


class SpectrometerDriver:
    """One Gatan spectrometer.

    Args:
        digital_micrograph: the vendor's module, or its look-alike.
        dispersions: eV per channel of each dispersion index; differs between instruments.
        apertures: label of each aperture index.
        energy_limits: lowest and highest energy offset that may be set, in eV.
        rows: first and one past the last sensor row read, and `vertical_binning` of them at a time.
        channels: columns of the sensor.
        scan_range: DigiScan's units at the left, top, right and bottom of the whole scan: differs
            between instruments. Without it, no map is taken by moving the probe from here.
        read_line: takes a line of a map with scan and camera synchronised by hardware. No public
            call does that (2026): hand in your own. Given the line's `y`, its first and last `x`
            (fractions of the scan), its points and the dwell time (s), it returns spectra, shape
            (points, channels), and dark-field counts, shape (points,). Its attribute
            `field_of_view` is the width of the whole scan in m.
    """

    FIXED_IN_FLIGHT = ("energy_offset", "dispersion", "aperture")

    def __init__(
        self,
        digital_micrograph: Any,
        *,
        dispersions: Optional[Mapping[int, float]] = None,
        apertures: Optional[Mapping[int, str]] = None,
        energy_limits: Tuple[float, float] = (-200.0, 3000.0),
        rows: Tuple[int, int] = SENSOR_ROWS,
        vertical_binning: int = VERTICAL_BINNING,
        channels: int = 2048,
        scan_range: Optional[Tuple[float, float, float, float]] = None,
        read_line: Any = None,
    ) -> None:
        self._dm = digital_micrograph
        self._dispersions = dict(dispersions or DISPERSIONS)
        self._apertures = dict(apertures or APERTURES)
        self._energy_limits = energy_limits
        self._rows = rows
        self._vertical_binning = vertical_binning
        self._channels = channels
        self._scan_range = scan_range
        self._read_line = read_line
        self._lock = threading.RLock()  # DigitalMicrograph is called by one thread at a time
        self._aborted = threading.Event()
        self._dispersion_doubt = ""
        self._layout = None  # type: Optional[Tuple[Tuple[int, ...], np.dtype]]
        with self._lock:
            self._camera = self._dm.GetActiveCamera()
            self._has = self._probe()
            self._processing = int(self._dm.GetCameraGainNormalizedEnum())

    def identity(self) -> Dict[str, Any]:
        """Say which instrument this is."""
        with self._lock:
            return {
                "vendor": "Gatan",
                "name": _name_of(self._camera),
                "simulated": type(self._dm).__module__.startswith("bluesky_em.acquisition.sim"),
                "functions": ", ".join(name for name in _FUNCTIONS if self._has[name]),
                "maps": ", ".join(self._syncs()),
            }

    def get(self, name: str) -> Any:
        """Read a setting from the hardware."""
        self._check_known(name)
        with self._lock:
            if name == "camera_inserted":
                return bool(self._camera.GetInserted())
            return self._filter_state()[name]

    def set(self, name: str, value: Any) -> Any:
        """Change a setting and return what the hardware reads back.

        Raises:
            ValueError: the value is not allowed; the message says what is.
            RuntimeError: the filter has not done what it was told.
        """
        self._check_known(name)
        if not self.settings()[name]["writable"]:
            raise ValueError(
                "{} cannot be changed from here on this spectrometer; change it in "
                "DigitalMicrograph.".format(name)
            )
        with self._lock:
            if name == "energy_offset":
                return self._set_energy_offset(value)
            if name == "dispersion":
                return self._set_dispersion(value)
            return self._set_aperture(value)

    def settings(self) -> Dict[str, Dict[str, Any]]:
        """Describe every setting; what is writable depends on the spectrometer's functions."""
        dispersions = sorted(self._dispersions.values(), reverse=True)
        return {
            "energy_offset": _setting(
                "eV",
                "float",
                writable=self._has["IFSetEnergyLoss"] and self._has["IFGetEnergyLoss"],
                limits=list(self._energy_limits),
            ),
            "dispersion": _setting(
                "eV/channel",
                "float",
                writable=self._dispersion_setter() is not None
                and self._has["IFCGetActiveDispersion"],
                choices=dispersions,
            ),
            "aperture": _setting(
                "",
                "str",
                writable=self._has["IFCSetAperture"] and self._has["IFCGetAperture"],
                choices=list(self._apertures.values()),
            ),
            "camera_inserted": _setting("", "bool"),
            "spectroscopy_mode": _setting("", "bool"),
        }

    def layout(self, detector: str, options: Mapping[str, Any]) -> Tuple[Tuple[int, ...], str]:
        """Return shape and dtype of the frame that `expose` would give; nothing is exposed."""
        if detector == "adf":
            return (), ADF_DTYPE
        _, frames = self._check_options(detector, options)
        with self._lock:
            if self._layout is None:
                self._layout = self._ask_layout()
            (rows, channels), dtype = self._layout
        return (channels,), _frame_dtype(dtype, rows, frames).str

    def expose(self, detector: str, options: Mapping[str, Any]) -> Exposure:
        """Take a spectrum of `frames` exposures added up; blocks until the last has ended.

        Options: exposure (s, 1e-6 to 5, default 0.1) of each frame, frames (1 to 1000, default 1).

        Raises:
            ValueError: an option is not allowed.
            RuntimeError: the filter is not in spectroscopy mode, the camera is retracted, or the
                exposure was aborted.
        """
        exposure, frames = self._check_options(detector, options)
        with self._lock:
            self._aborted.clear()
            state = self._filter_state()
            self._check_ready(state)
            self._camera.PrepareForAcquire()
            started = ended = time.time()
            total = None  # type: Optional[np.ndarray]
            dtype = None  # type: Optional[np.dtype]
            energy = {}  # type: Dict[str, Any]
            facts = {}  # type: Dict[str, float]
            for frame in range(frames):
                self._check_not_aborted(frame, frames)
                image = self._acquire(exposure)
                ended = time.time()
                try:
                    recorded = np.atleast_2d(image.GetNumArray())
                    dtype = _frame_dtype(recorded.dtype, len(recorded), frames)
                    array = _rows_summed(recorded, frames)
                    total = array if total is None else total + array
                    if frame == frames - 1:
                        energy = self._energy_axis(image, len(array), state)
                        facts = self._image_facts(image)
                finally:
                    self._dm.DeleteImage(image)
                    recorded = None  # a view of the image's memory
                    del image  # GMS keeps an image's memory as long as Python knows it
            spectrum = np.ascontiguousarray(total, dtype=dtype)
            metadata = self._metadata(exposure, frames, state, facts, energy)
        return Exposure(spectrum, [energy], metadata, started, ended)

    def check_flight(
        self, detector: str, options: Mapping[str, Any], scan: Optional[Mapping[str, Any]]
    ) -> None:
        """Refuse a flight that cannot be made (ValueError); nothing moves."""
        if detector != "adf":
            self._check_options(detector, options)
        if scan is not None:
            check_scan(scan, options, self._syncs())
        if detector == "adf" and (scan is None or scan["sync"] != "hardware"):
            raise ValueError(
                "adf is recorded only beside spectra, in a map whose scan is synchronised by "
                "hardware"
            )

    def fly(
        self,
        orders: Mapping[str, Mapping[str, Any]],
        count: int,
        scan: Optional[Mapping[str, Any]] = None,
    ) -> Rows:
        """Take so many spectra, as fast as the instrument gives them.

        Args:
            orders: options by detector: `eels`, in a map synchronised by hardware also `adf`.
            count: spectra to take; of a map, all its points or the first of them.
            scan: None takes all at one place. Otherwise `shape` (lines, points), `region` (left,
                top, width, height in fractions of the scan) and `sync`: "hardware" takes a line
                at a time (after one exposure that is not kept, for the energy axis), "software"
                moves the probe and exposes, point by point.

        Yields:
            By detector, rows of one frame or more, shape (n, channels), for `adf` (n,). Those of
            a map synchronised by hardware are its lines, and say as `index` in their metadata
            where they belong in the array of the whole map, e.g. [line, 0, 0].
        """
        if "eels" not in orders:
            raise ValueError("adf cannot fly without eels, whose pace it follows")
        if scan is None:
            return burst(self, orders, count)
        exposure, frames = self._check_options("eels", orders["eels"])
        if scan["sync"] == "hardware":
            return self._fly_lines(exposure, count, scan, "adf" in orders)
        return self._fly_points(orders["eels"], count, scan)

    def abort(self) -> None:
        """End a running exposure after its current frame; DigitalMicrograph allows no sooner.

        An exposure already in its last frame completes and is kept.
        """
        self._aborted.set()

    def park(self) -> None:
        """Leave the instrument as it is: DigitalMicrograph owns camera and filter."""

    # -- options and limits

    def _check_known(self, name: str) -> None:
        known = self.settings()
        if name not in known:
            raise ValueError(
                "There is no setting '{}'. This spectrometer has: {}.".format(
                    name, ", ".join(known)
                )
            )

    def _check_options(self, detector: str, options: Mapping[str, Any]) -> Tuple[float, int]:
        """Return exposure (s) and number of frames."""
        if detector == "adf":
            raise ValueError("adf has no exposures of its own: it flies beside eels, in a map")
        if detector != "eels":
            raise ValueError(
                "There is no detector '{}'. This spectrometer has: eels.".format(detector)
            )
        unknown = sorted(set(options) - {"exposure", "frames"})
        if unknown:
            raise ValueError(
                "eels has no option '{}'. Its options are: exposure (s), frames.".format(unknown[0])
            )
        exposure = in_limits("exposure", options.get("exposure", 0.1), EXPOSURE_LIMITS, "s")
        frames = in_limits("frames", options.get("frames", 1), FRAME_LIMITS)
        if frames != int(frames):
            raise ValueError("frames is {}; give a whole number.".format(frames))
        return exposure, int(frames)

    def _syncs(self) -> List[str]:
        """Return how a map can be taken here."""
        can = {"hardware": self._read_line, "software": self._scan_range}
        return [name for name, means in can.items() if means is not None]

    def _check_ready(self, state: Mapping[str, Any]) -> None:
        if not state["spectroscopy_mode"]:
            raise RuntimeError(
                "The imaging filter is not in spectroscopy mode, so no spectrum was taken. "
                "Switch it to EELS in DigitalMicrograph and try again."
            )
        if not state["camera_inserted"] and self._camera.IsRetractable():
            raise RuntimeError(
                "The spectrometer's camera is retracted, so no spectrum was taken. "
                "Insert it in DigitalMicrograph and try again."
            )

    def _check_not_aborted(self, frame: int, frames: int) -> None:
        if self._aborted.is_set():
            raise RuntimeError(
                "The exposure was aborted after {} of {} frames; nothing was kept.".format(
                    frame, frames
                )
            )

    # -- maps

    def _fly_lines(self, dwell: float, count: int, scan: Mapping[str, Any], adf: bool) -> Rows:
        points = scan["shape"][1]
        left, top, width, height = scan["region"]
        with self._lock:
            energy, facts = self._look(dwell)
            axes = map_axes(scan, self._read_line.field_of_view, "m")
            facts.update(scan=axes, dwell_time=dwell)
        first = 0
        while first < count:
            y = top + height * (first // points + 0.5) / scan["shape"][0]
            taken = min(points, count - first)
            ends = left + width * 0.5 / points, left + width * (taken - 0.5) / points
            started = time.time()
            with self._lock:
                spectra, signal = self._read_line(y, ends, taken, dwell)
            ended = time.time()
            spectra = np.ascontiguousarray(spectra, dtype=np.dtype(spectra.dtype).newbyteorder("<"))
            line = first // points
            eels_facts = dict(facts, index=[line, 0, 0])
            row = {"eels": Exposure(spectra, [energy], eels_facts, started, ended)}
            if adf:
                signal = np.ascontiguousarray(signal, dtype=ADF_DTYPE)
                adf_facts = {
                    "signal_type": "", "dwell_time": dwell, "scan": axes, "index": [line, 0],
                }  # fmt: skip
                row["adf"] = Exposure(signal, [], adf_facts, started, ended)
            again = yield row
            first += 0 if again else points

    def _look(self, exposure: float) -> Tuple[Dict[str, Any], Dict[str, Any]]:
        """Expose once for what lines do not tell: the energy axis, and the microscope's state."""
        state = self._filter_state()
        self._check_ready(state)
        image = self._acquire(exposure)
        try:
            energy = self._energy_axis(image, self._channels, state)
            facts = self._image_facts(image)
            facts.pop("saturation_fraction", None)  # that exposure's own
            return energy, self._metadata(exposure, 1, state, facts, energy)
        finally:
            self._dm.DeleteImage(image)

    def _fly_points(self, options: Mapping[str, Any], count: int, scan: Mapping[str, Any]) -> Rows:
        lines, points = scan["shape"]
        left, top, width, height = scan["region"]
        axes = map_axes(scan, 1.0, "")  # this PC does not know how large the field of view is
        try:
            number = 0
            while number < count:
                line, point = divmod(number, points)
                self._move_probe(
                    left + width * (point + 0.5) / points, top + height * (line + 0.5) / lines
                )
                exposure = self.expose("eels", options)
                exposure.metadata["scan"] = axes
                again = yield {"eels": exposure._replace(array=exposure.array[np.newaxis])}
                number += not again
        finally:
            with self._lock:
                self._do("DSSetBeamToSafePosition()")

    def _move_probe(self, x: float, y: float) -> None:
        assert self._scan_range is not None, "check_flight has refused"
        left, top, right, bottom = self._scan_range
        with self._lock:
            self._dm.DS_MoveBeamTo(left + x * (right - left), top + y * (bottom - top))

    # -- the filter, through DM-Script

    def _probe(self) -> Dict[str, bool]:
        """Ask which script functions this spectrometer has; a script with a missing one fails."""
        answers = self._ask({n: 'DoesFunctionExist("{}")'.format(n) for n in _FUNCTIONS})
        return {name: bool(answers[name]) for name in _FUNCTIONS}

    def _ask(self, questions: Mapping[str, str]) -> Dict[str, float]:
        """Run several number-valued script expressions in one round trip."""
        tags = self._dm.GetPersistentTagGroup()
        tags.DeleteTagWithLabel(_TAGS)
        self._dm.ExecuteScriptString(
            "\n".join(
                'GetPersistentTagGroup().TagGroupSetTagAsFloat("{}:{}", {})'.format(
                    _TAGS, key, call
                )
                for key, call in questions.items()
            )
        )
        answers = {}
        for key, call in questions.items():
            found, value = tags.GetTagAsFloat("{}:{}".format(_TAGS, key))
            if not found:
                raise RuntimeError("DigitalMicrograph gave no answer to {}.".format(call))
            answers[key] = float("{:.7g}".format(value))  # tags are single precision
        return answers

    def _do(self, call: str) -> None:
        self._dm.ExecuteScriptString(call)

    def _filter_state(self) -> Dict[str, Any]:
        """Read the whole filter at once, since each round trip costs."""
        questions = {}
        for key, functions in _READABLE.items():
            function = next((f for f in functions if self._has[f]), None)
            if function is not None:
                questions[key] = function + "()"
        if "mode" not in questions:
            raise RuntimeError(
                "This DigitalMicrograph has no imaging filter: none of {} exists. Is the "
                "spectrometer's plug-in installed?".format(" or ".join(_READABLE["mode"]))
            )
        answers = self._ask(questions)
        if self._has["IFCGetFilterMode"]:
            in_spectroscopy = int(answers["mode"]) == SPECTROSCOPY
        else:
            in_spectroscopy = bool(answers["mode"])
        index = int(answers.get("dispersion", -1))
        aperture = int(answers.get("aperture", -1))
        return {
            "energy_offset": answers.get("energy_offset", math.nan),
            "dispersion": self._dispersions.get(index, math.nan),
            "aperture": self._apertures.get(aperture, str(aperture)),
            "spectroscopy_mode": in_spectroscopy,
            "camera_inserted": bool(self._camera.GetInserted()),
        }

    def _set_energy_offset(self, value: Any) -> float:
        target = in_limits("energy_offset", value, self._energy_limits, "eV")
        now = self._filter_state()["energy_offset"]
        if abs(target - now) <= ENERGY_TOLERANCE:
            return now
        self._do("IFSetEnergyLoss({:.7g})".format(target))
        self._wait_for_filter(target - now)
        reached = self._filter_state()["energy_offset"]
        if abs(reached - target) > ENERGY_TOLERANCE:
            raise RuntimeError(
                "The energy offset was set to {} eV but reads back {} eV. Check the filter's drift "
                "tube in DigitalMicrograph.".format(target, reached)
            )
        return reached

    def _wait_for_filter(self, change: float) -> None:
        if self._has["IFWaitForFilter"]:
            self._do("IFWaitForFilter()")
        else:
            self._dm.Sleep(_settling_time(change))

    def _set_dispersion(self, value: Any) -> float:
        if self._dispersion_doubt:
            raise RuntimeError(self._dispersion_doubt)
        dispersion = one_of("dispersion", value, self._dispersions.values(), "eV/channel")
        index = _index_of(dispersion, self._dispersions)
        self._do("{}({})".format(self._dispersion_setter(), index))
        self._wait_for_filter(0.0)
        return self._confirm("dispersion", dispersion)

    def _dispersion_setter(self) -> Optional[str]:
        return next((name for name in _DISPERSION_SETTERS if self._has[name]), None)

    def _set_aperture(self, value: Any) -> str:
        if isinstance(value, int) and value in self._apertures:
            value = self._apertures[value]
        aperture = one_of("aperture", value, self._apertures.values())
        self._do("IFCSetAperture({})".format(_index_of(aperture, self._apertures)))
        self._wait_for_filter(0.0)
        return self._confirm("aperture", aperture)

    def _confirm(self, name: str, wanted: Any) -> Any:
        reached = self._filter_state()[name]
        if reached != wanted:
            raise RuntimeError(
                "{} was set to {} but reads back {}. Set it in DigitalMicrograph.".format(
                    name, wanted, reached
                )
            )
        return reached

    # -- the camera and its images

    def _read_out(self) -> Tuple[int, int, int, int, int, int, int]:
        """Return binning x, y, processing, top, left, bottom, right."""
        top, bottom = self._rows
        return (1, self._vertical_binning, self._processing, top, 0, bottom, self._channels)

    def _acquire(self, exposure: float) -> Any:
        return self._camera.AcquireImage(exposure, *self._read_out())

    def _ask_layout(self) -> Tuple[Tuple[int, ...], np.dtype]:
        image = self._camera.CreateImageForAcquire(*self._read_out())
        try:
            array = image.GetNumArray()
            return np.atleast_2d(array).shape, array.dtype
        finally:
            self._dm.DeleteImage(image)
            del image

    def _energy_axis(self, image: Any, channels: int, state: Mapping[str, Any]) -> Dict[str, Any]:
        """Return the axis the image carries, else the one that follows from the filter."""
        origin, scale, unit = image.GetDimensionCalibration(0, 0)
        if unit != "eV":
            return self._axis_of_filter(state, channels)
        self._doubt_dispersion(float(scale), state["dispersion"])
        return axis("energy", "eV", float(origin), float(scale), channels)

    def _axis_of_filter(self, state: Mapping[str, Any], channels: int) -> Dict[str, Any]:
        """Return the energy axis that follows from the filter's state."""
        scale = state["dispersion"]
        origin = state["energy_offset"] - ZERO_LOSS_CHANNEL * scale
        if not math.isfinite(origin):
            raise RuntimeError(
                "The spectrum has no energy axis: the camera's image has none, and the filter's "
                "state is not in the dispersion map {}.".format(self._dispersions)
            )
        return axis("energy", "eV", origin, scale, channels)

    def _doubt_dispersion(self, measured: float, mapped: float) -> None:
        """Compare the image's calibration with the map of indices, which is ours to get wrong."""
        nearest = min(self._dispersions.values(), key=lambda d: abs(math.log(d / measured)))
        self._dispersion_doubt = (
            ""
            if nearest == mapped
            else "The image is calibrated to {:.6g} eV/channel, the dispersion map says {} for the "
            "filter's index. Correct the map of dispersions for this instrument.".format(
                measured, mapped
            )
        )

    def _image_facts(self, image: Any) -> Dict[str, float]:
        tags = image.GetTagGroup()
        facts = {}
        for name, (path, factor) in _METADATA_TAGS.items():
            found, value = tags.GetTagAsFloat(path)
            if found:
                facts[name] = float("{:.7g}".format(value * factor))
        return facts

    def _metadata(
        self,
        exposure: float,
        frames: int,
        state: Mapping[str, Any],
        facts: Mapping[str, float],
        energy: Mapping[str, Any],
    ) -> Dict[str, Any]:
        metadata = {
            "signal_type": "EELS",
            "exposure": exposure,
            "frames": frames,
            "energy_offset": state["energy_offset"],
            "dispersion": energy["scale"],
            "aperture": state["aperture"],
            "spectrometer": _name_of(self._camera),
        }
        metadata.update(facts)
        if self._dispersion_doubt:
            metadata["warning"] = self._dispersion_doubt
        return {k: v for k, v in metadata.items() if v == v}  # what is not known is not said


def _setting(
    units: str,
    dtype: str,
    writable: bool = False,
    limits: Optional[List[float]] = None,
    choices: Optional[List[Any]] = None,
) -> Dict[str, Any]:
    return {
        "units": units,
        "dtype": dtype,
        "writable": bool(writable),
        "limits": limits,
        "choices": choices,
    }


def _index_of(choice: Any, choices: Mapping[int, Any]) -> int:
    return next(index for index, each in choices.items() if each == choice)


def _settling_time(change: float) -> float:
    """Return how long (s) the filter settles after a change of energy (eV), as SerialEM waits."""
    change = abs(change)
    return (10 + 0.5 * change if change < 40 else 30 + 0.25 * change) / 60


def _rows_summed(image: np.ndarray, frames: int) -> np.ndarray:
    """Return a copy of an image (rows, channels) with its rows added, precise enough to go on."""
    if len(image) == 1 and frames == 1:
        return np.array(image[0])
    return image.sum(axis=0, dtype=np.float64 if image.dtype.kind == "f" else np.int64)


def _frame_dtype(dtype: np.dtype, rows: int, frames: int) -> np.dtype:
    """Return a spectrum's type: the recorded one, except that added integers must not overflow."""
    added = rows > 1 or frames > 1
    wide = np.dtype(np.int64) if added and dtype.kind in "iu" else dtype
    return wide.newbyteorder("<")


def _name_of(camera: Any) -> str:
    name = getattr(camera, "GetName", None)
    return str(name()) if name is not None else "active camera"
