"""The driver of a Gatan spectrometer, inside DigitalMicrograph.

Python 3.7 syntax, NumPy and the standard library only: GMS brings its own interpreter. The vendor
module is an argument, so the same code runs on the look-alike in `acquisition.sim`.
"""

from __future__ import annotations

import math
import threading
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ..calibration import checked, is_possible
from ..driver import Driver
from ..exposure import Exposure, Rows
from ..limits import in_limits
from .camera import SENSOR_ROWS, VERTICAL_BINNING, Camera
from .imaging_filter import APERTURES, DISPERSIONS, ImagingFilter
from .scan import ADF_DTYPE, Probe, check_scan, fly_lines, fly_points

EXPOSURE_LIMITS = (1e-6, 5.0)  # s
FRAME_LIMITS = (1, 1000)


class SpectrometerDriver(Driver):
    """One Gatan spectrometer.

    Args:
        digital_micrograph: the vendor's module, or its look-alike.
        dispersions: eV per channel of each dispersion index; differs between instruments.
        apertures: label of each aperture index.
        energy_limits: lowest and highest energy offset that may be set, in eV.
        rows: first and one past the last sensor row read.
        vertical_binning: sensor rows binned together.
        channels: columns of the sensor.
        scan_range: DigiScan's units at the left, top, right and bottom of the whole scan: differs
            between instruments. Without it, no map is taken by moving the probe from here.
        read_line: takes a line of a map with scan and camera synchronised by hardware. No public
            call does that (2026): pass your own. From the line's `y`, its first and last `x`
            (fractions of the scan), its points and the dwell time (s), it returns spectra, shape
            (points, channels), and dark-field counts, shape (points,). Its attribute
            `field_of_view` is the width of the whole scan in m.
    """

    FIXED_IN_FLY_SCAN = ("energy_offset", "dispersion", "aperture")

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
        dm = digital_micrograph
        self._simulated = type(dm).__module__.startswith("bluesky_em.acquisition.sim")
        self._read_line = read_line
        self._lock = threading.RLock()  # DigitalMicrograph is called by one thread at a time
        self._aborted = threading.Event()
        self._probe = Probe(dm, scan_range, self._lock) if scan_range is not None else None
        with self._lock:
            self._filter = ImagingFilter(
                dm, dispersions or DISPERSIONS, apertures or APERTURES, energy_limits
            )
            self._camera = Camera(dm, self._filter, rows, vertical_binning, channels)

    def identity(self) -> Dict[str, Any]:
        """Return vendor, name, the script functions found, and how maps can be taken."""
        with self._lock:
            return {
                "vendor": "Gatan",
                "name": self._camera.name,
                "simulated": self._simulated,
                "functions": ", ".join(self._filter.functions),
                "maps": ", ".join(self._syncs()),
            }

    def settings(self) -> Dict[str, Dict[str, Any]]:
        """Describe every setting; what is writable depends on the spectrometer's functions."""
        camera = {"units": "", "dtype": "bool", "writable": False, "limits": None, "choices": None}
        return dict(self._filter.settings(), camera_inserted=camera)

    def get(self, name: str) -> Any:
        """Read a setting from the hardware."""
        self._check_known(name)
        with self._lock:
            if name == "camera_inserted":
                return self._camera.inserted
            return self._filter.state()[name]

    def set(self, name: str, value: Any) -> Any:
        """Change a setting and return what the hardware reads back.

        Raises:
            ValueError: the value is not allowed; the message says what is.
            RuntimeError: the filter reads back another value.
        """
        self._check_known(name)
        if not self.settings()[name]["writable"]:
            raise ValueError(
                "{} cannot be changed from here on this spectrometer; change it in "
                "DigitalMicrograph.".format(name)
            )
        with self._lock:
            return self._filter.set(name, value)

    def layout(self, detector: str, options: Mapping[str, Any]) -> Tuple[Tuple[int, ...], str]:
        """Return shape and dtype of the frame that `expose` would take; nothing is exposed."""
        if detector == "adf":
            return (), ADF_DTYPE
        _, frames = _check_options(detector, options)
        with self._lock:
            return self._camera.layout(frames)

    def expose(self, detector: str, options: Mapping[str, Any]) -> Exposure:
        """Take a spectrum of `frames` exposures added up; return when the last has ended.

        Options: exposure (s, 1e-6 to 5, default 0.1) of each frame, frames (1 to 1000, default 1).

        Raises:
            ValueError: an option is not allowed.
            RuntimeError: the filter is not in spectroscopy mode, the camera is retracted, or the
                exposure was aborted.
        """
        exposure, frames = _check_options(detector, options)

        def check_not_aborted(done: int) -> None:
            if self._aborted.is_set():
                raise RuntimeError(
                    "The exposure was aborted after {} of {} frames; nothing was kept.".format(
                        done, frames
                    )
                )

        with self._lock:
            self._aborted.clear()
            state = self._ready_state()
            taken = self._camera.acquire(exposure, frames, state, check_not_aborted)
            metadata = self._metadata(exposure, frames, state, taken.tags, taken.energy)
        exposed = Exposure(taken.array, [taken.energy], metadata, taken.started, taken.ended)
        return checked(exposed)

    def check_fly_scan(
        self, detector: str, options: Mapping[str, Any], scan: Optional[Mapping[str, Any]]
    ) -> None:
        """Check that a detector can take part in a fly scan (ValueError); nothing moves."""
        if detector != "adf":
            _check_options(detector, options)
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
        """Take `count` spectra, as fast as the instrument can.

        Args:
            orders: options by detector: `eels`, in a map synchronised by hardware also `adf`.
            count: spectra to take; of a map, all its points or the first of them.
            scan: None takes all at one place. Otherwise `shape` (lines, points), `region` (left,
                top, width, height in fractions of the scan) and `sync`: "hardware" takes a line
                at a time (after one exposure that is not kept, for the energy axis), "software"
                moves the probe and exposes, point by point.

        Yields:
            By detector, rows of one frame or more, shape (n, channels), for `adf` (n,). Those of
            a map synchronised by hardware are its lines; `index` in their metadata is their place
            in the array of the whole map, e.g. [line, 0, 0].
        """
        if "eels" not in orders:
            raise ValueError("adf cannot be recorded without eels, which sets its pace")
        if scan is None:
            return super(SpectrometerDriver, self).fly(orders, count)
        exposure, _ = _check_options("eels", orders["eels"])
        if scan["sync"] == "hardware":
            return fly_lines(
                self._read_line, self._lock, lambda: self._facts(exposure), exposure, count, scan,
                "adf" in orders,
            )  # fmt: skip
        assert self._probe is not None, "check_fly_scan has refused"
        return fly_points(self._probe, lambda: self.expose("eels", orders["eels"]), count, scan)

    def abort(self) -> None:
        """End a running exposure after its current frame; DigitalMicrograph allows no sooner.

        An exposure already in its last frame completes and is kept.
        """
        self._aborted.set()

    def park(self) -> None:
        """Leave the instrument as it is: DigitalMicrograph owns camera and filter."""

    def _check_known(self, name: str) -> None:
        known = self.settings()
        if name not in known:
            raise ValueError(
                "There is no setting '{}'. This spectrometer has: {}.".format(
                    name, ", ".join(known)
                )
            )

    def _syncs(self) -> List[str]:
        """Return how a map can be taken here."""
        can = {"hardware": self._read_line, "software": self._probe}
        return [name for name, means in can.items() if means is not None]

    def _ready_state(self) -> Dict[str, Any]:
        """Return the filter's state.

        Raises:
            RuntimeError: no spectrum can be taken; the message says what to do.
        """
        state = self._filter.state()
        inserted = self._camera.inserted
        if not state["spectroscopy_mode"]:
            raise RuntimeError(
                "The imaging filter is not in spectroscopy mode, so no spectrum was taken. "
                "Switch it to EELS in DigitalMicrograph and try again."
            )
        if not inserted and self._camera.retractable:
            raise RuntimeError(
                "The spectrometer's camera is retracted, so no spectrum was taken. "
                "Insert it in DigitalMicrograph and try again."
            )
        return state

    def _facts(self, exposure: float) -> Tuple[Dict[str, Any], Dict[str, Any]]:
        """Expose once and return the energy axis and metadata that all lines of a map share."""
        state = self._ready_state()
        energy, tags = self._camera.expose_for_facts(exposure, state)
        return energy, self._metadata(exposure, 1, state, tags, energy)

    def _metadata(
        self,
        exposure: float,
        frames: int,
        state: Mapping[str, Any],
        tags: Mapping[str, float],
        energy: Mapping[str, Any],
    ) -> Dict[str, Any]:
        dispersion = energy["scale"]
        metadata = {
            "signal_type": "EELS",
            "exposure": exposure,
            "frames": frames,
            "energy_offset": state["energy_offset"],
            "dispersion": dispersion if is_possible(energy["offset"], dispersion) else math.nan,
            "aperture": state["aperture"],
            "spectrometer": self._camera.name,
        }
        metadata.update(tags)
        if self._filter.warning:
            metadata["warning"] = self._filter.warning
        return {k: v for k, v in metadata.items() if v == v}  # leave out NaN


def _check_options(detector: str, options: Mapping[str, Any]) -> Tuple[float, int]:
    """Return exposure (s) and number of frames."""
    if detector == "adf":
        raise ValueError("adf cannot be exposed alone: it is recorded beside eels, in a map")
    if detector != "eels":
        raise ValueError("There is no detector '{}'. This spectrometer has: eels.".format(detector))
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
