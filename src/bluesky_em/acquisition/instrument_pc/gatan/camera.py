"""The spectrometer's camera: from its images to spectra with an energy axis (Python 3.7 syntax)."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from .imaging_filter import ImagingFilter
from .scan import axis

SENSOR_ROWS = (894, 1154)  # the rows the spectrum falls on, as GMS reads them
VERTICAL_BINNING = 130

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


class Spectrum(NamedTuple):
    """One spectrum, of one or more exposures added up."""

    array: np.ndarray
    """Counts, shape (channels,), little-endian; a copy."""
    energy: Dict[str, Any]
    """Its axis, in eV."""
    tags: Dict[str, float]
    """Facts from the last image's tags; see `_METADATA_TAGS`."""
    started: float
    ended: float


class Camera:
    """DigitalMicrograph's active camera; one thread at a time may use it.

    Args:
        digital_micrograph: the vendor's module, or its look-alike.
        imaging_filter: gives the energy axis where the image has none.
        rows: first and one past the last sensor row read.
        vertical_binning: rows binned together.
        channels: columns of the sensor.
    """

    def __init__(
        self,
        digital_micrograph: Any,
        imaging_filter: ImagingFilter,
        rows: Tuple[int, int],
        vertical_binning: int,
        channels: int,
    ) -> None:
        self._dm = digital_micrograph
        self._filter = imaging_filter
        self._channels = channels
        self._camera = digital_micrograph.GetActiveCamera()
        self._processing = int(digital_micrograph.GetCameraGainNormalizedEnum())
        self._rows = rows
        self._vertical_binning = vertical_binning
        self._layout: Optional[Tuple[Tuple[int, ...], np.dtype]] = None

    @property
    def name(self) -> str:
        """The vendor's name of the camera."""
        name = getattr(self._camera, "GetName", None)
        return str(name()) if name is not None else "active camera"

    @property
    def inserted(self) -> bool:
        """Whether the camera is in the beam."""
        return bool(self._camera.GetInserted())

    @property
    def retractable(self) -> bool:
        """Whether the camera can be out of the beam."""
        return bool(self._camera.IsRetractable())

    def layout(self, frames: int) -> Tuple[Tuple[int, ...], str]:
        """Return shape and dtype of a spectrum of this number of exposures; nothing is exposed."""
        if self._layout is None:
            self._layout = self._ask_layout()
        (rows, channels), dtype = self._layout
        return (channels,), _spectrum_dtype(dtype, rows, frames).str

    def acquire(
        self,
        exposure: float,
        frames: int,
        state: Mapping[str, Any],
        check: Callable[[int], None],
    ) -> Spectrum:
        """Add up exposures of `exposure` seconds each.

        Args:
            exposure: s.
            frames: exposures to add up.
            state: the filter's.
            check: called before each exposure with the number of those made; it may raise.
        """
        self._camera.PrepareForAcquire()
        started = ended = time.time()
        total: Optional[np.ndarray] = None
        dtype: Optional[np.dtype] = None
        energy: Dict[str, Any] = {}
        tags: Dict[str, float] = {}
        for frame in range(frames):
            check(frame)
            image = self._expose(exposure)
            ended = time.time()
            try:
                recorded = np.atleast_2d(image.GetNumArray())
                dtype = _spectrum_dtype(recorded.dtype, len(recorded), frames)
                array = _sum_rows(recorded, frames)
                total = array if total is None else total + array
                if frame == frames - 1:
                    energy = self._energy_axis(image, len(array), state)
                    tags = _read_tags(image)
            finally:
                self._dm.DeleteImage(image)
                recorded = None  # a view of the image's memory
                del image  # GMS keeps an image's memory as long as Python refers to it
        return Spectrum(np.ascontiguousarray(total, dtype=dtype), energy, tags, started, ended)

    def expose_for_facts(
        self, exposure: float, state: Mapping[str, Any]
    ) -> Tuple[Dict[str, Any], Dict[str, float]]:
        """Expose once and return the energy axis and the tags; the counts are not kept."""
        image = self._expose(exposure)
        try:
            energy = self._energy_axis(image, self._channels, state)
            tags = _read_tags(image)
            tags.pop("saturation_fraction", None)  # of that exposure alone
            return energy, tags
        finally:
            self._dm.DeleteImage(image)

    def _read_out(self) -> Tuple[int, int, int, int, int, int, int]:
        """Return binning x, y, processing, top, left, bottom, right."""
        top, bottom = self._rows
        return (1, self._vertical_binning, self._processing, top, 0, bottom, self._channels)

    def _expose(self, exposure: float) -> Any:
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
        """Return the axis in the image, else the one that follows from the filter's state."""
        origin, scale, unit = image.GetDimensionCalibration(0, 0)
        if unit != "eV":
            return self._filter.energy_axis(state, channels)
        self._filter.compare_dispersion(float(scale), state["dispersion"])
        return axis("energy", "eV", float(origin), float(scale), channels)


def _read_tags(image: Any) -> Dict[str, float]:
    tags = image.GetTagGroup()
    facts = {}
    for name, (path, factor) in _METADATA_TAGS.items():
        found, value = tags.GetTagAsFloat(path)
        if found:
            facts[name] = float("{:.7g}".format(value * factor))
    return facts


def _sum_rows(image: np.ndarray, frames: int) -> np.ndarray:
    """Return a copy of an image (rows, channels) with its rows added, precise enough to add up."""
    if len(image) == 1 and frames == 1:
        return np.array(image[0])
    return image.sum(axis=0, dtype=np.float64 if image.dtype.kind == "f" else np.int64)


def _spectrum_dtype(dtype: np.dtype, rows: int, frames: int) -> np.dtype:
    """Return a spectrum's type: the recorded one, except that added integers must not overflow."""
    added = rows > 1 or frames > 1
    wide = np.dtype(np.int64) if added and dtype.kind in "iu" else dtype
    return wide.newbyteorder("<")
