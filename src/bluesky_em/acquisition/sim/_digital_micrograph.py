"""A look-alike of the `DigitalMicrograph` Python module, as far as the driver uses it."""

# The names and their meaning are the vendor's; the classes of one module know each other.
# ruff: noqa: D102, N802, SLF001
from __future__ import annotations

import itertools
import math
import time
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _dm_script
from ._beam import BeamState, HasSnapshot
from ._imaging_filter import APERTURES, DISPERSIONS, ImagingFilter
from ._replay import Recording
from ._sample import Sample
from ._spectrum import (
    CHANNELS,
    ELEMENTARY_CHARGE,
    SENSOR_ROWS,
    ZERO_LOSS_CHANNEL,
    EelsCamera,
    EnergyDrift,
)

SCAN_RANGE = (-8192.0, -8192.0, 8192.0, 8192.0)
"""DigiScan's units at the left, top, right and bottom of the whole scan."""


class TagGroup:
    """`Py_TagGroup`: values under paths like ``"A:B:C"``; numbers are single precision."""

    def __init__(self, tags: dict[str, Any] | None = None) -> None:
        self._tags = dict(tags or {})

    def IsValid(self) -> bool:
        return True

    def SetTagAsFloat(self, path: str, value: float) -> None:
        self._tags[path] = float(np.float32(value))

    def SetTagAsLong(self, path: str, value: float) -> None:
        self._tags[path] = int(value)

    def SetTagAsBoolean(self, path: str, value: float) -> None:
        self._tags[path] = bool(value)

    def SetTagAsString(self, path: str, value: str) -> None:
        self._tags[path] = str(value)

    def GetTagAsFloat(self, path: str) -> tuple[bool, float]:
        return self._get(path, float, 0.0)

    def GetTagAsLong(self, path: str) -> tuple[bool, int]:
        return self._get(path, int, 0)

    def GetTagAsBoolean(self, path: str) -> tuple[bool, bool]:
        return self._get(path, bool, False)

    def GetTagAsString(self, path: str) -> tuple[bool, str]:
        return self._get(path, str, "")

    def DeleteTagWithLabel(self, path: str) -> None:
        for known in [k for k in self._tags if k == path or k.startswith(path + ":")]:
            del self._tags[known]

    def _get(self, path: str, kind: type, missing: Any) -> tuple[bool, Any]:
        found = path in self._tags
        return found, kind(self._tags[path]) if found else missing


class Image:
    """`Py_Image`: `GetNumArray` is a view of its memory, invalid after `DeleteImage`."""

    def __init__(self, number: int, data: NDArray[Any], tags: dict[str, Any]) -> None:
        self._id, self._data, self._tags = number, data, TagGroup(tags)
        self._calibrations = [(0.0, 1.0, "")] * data.ndim

    def GetID(self) -> int:
        return self._id

    def GetNumArray(self) -> NDArray[Any]:
        return self._data

    def GetTagGroup(self) -> TagGroup:
        return self._tags

    def GetDimensionSize(self, dimension: int) -> int:
        return self._data.shape[::-1][dimension]

    def GetDimensionCalibration(self, dimension: int, fmt: int) -> tuple[float, float, str]:
        """Return origin, scale, unit; the origin calibrated (fmt 0) or in channels (fmt 1)."""
        origin, scale, unit = self._calibrations[dimension]
        return (origin if fmt == 0 else -origin / scale), scale, unit

    def SetDimensionCalibration(
        self, dimension: int, origin: float, scale: float, unit: str, fmt: int
    ) -> None:
        calibrated = origin if fmt == 0 else -origin * scale
        self._calibrations[dimension] = (calibrated, scale, unit)


class Camera:
    """`Py_Camera`: the spectrometer's own camera."""

    def __init__(self, module: DigitalMicrograph) -> None:
        self._module = module
        self.inserted = True
        """Fault switch: a retracted camera sees only its own dark."""

    def GetName(self) -> str:
        return "Simulated US1000FTXP"

    def GetInserted(self) -> bool:
        return self.inserted

    def SetInserted(self, inserted: bool) -> None:
        self.inserted = bool(inserted)

    def IsRetractable(self) -> bool:
        return True

    def PrepareForAcquire(self) -> None:
        pass

    def CreateImageForAcquire(
        self,
        x_bin: int,
        y_bin: int,
        processing: int,
        top: int = 0,
        left: int = 0,
        bottom: int = SENSOR_ROWS,
        right: int = CHANNELS,
    ) -> Image:
        """Return the empty image that an exposure with these settings would fill."""
        self._check(x_bin, y_bin, left, right)
        return self._module._empty_image((bottom - top) // y_bin)

    def AcquireImage(
        self,
        exposure: float,
        x_bin: int,
        y_bin: int,
        processing: int,
        top: int = 0,
        left: int = 0,
        bottom: int = SENSOR_ROWS,
        right: int = CHANNELS,
    ) -> Image:
        """Block for the exposure (s) and return its image, (rows, channels)."""
        end = time.perf_counter() + exposure
        self._check(x_bin, y_bin, left, right)
        image = self._module._expose(exposure, top, bottom, y_bin, processing)
        # All is computed; from here on the exposure takes as long as a real one and no longer.
        if self._module.latency:
            time.sleep(max(0.0, end - time.perf_counter()))
        return image

    def AcquireInPlace(self, image: Image, exposure: float, *settings: int) -> None:
        """Block for the exposure (s) and fill an image made by `CreateImageForAcquire`."""
        acquired = self.AcquireImage(exposure, *settings)
        np.copyto(image._data, acquired._data)
        image._tags, image._calibrations = acquired._tags, acquired._calibrations
        self._module.DeleteImage(acquired)

    @staticmethod
    def _check(x_bin: int, y_bin: int, left: int, right: int) -> None:
        if (x_bin, left, right) != (1, 0, CHANNELS) or y_bin < 1:
            raise RuntimeError(
                f"The simulated camera reads all {CHANNELS} columns unbinned, not columns "
                f"{left} to {right} binned {x_bin} x {y_bin}."
            )


class DigitalMicrograph:
    """The module itself: its attributes are the vendor's functions, under the vendor's names.

    Inject faults through `filter.mode`, `camera.inserted` and `missing_functions`.
    """

    def __init__(
        self,
        beam: HasSnapshot,
        *,
        seed: int = 7,
        latency: bool = True,
        recording: Recording | None = None,
    ) -> None:
        self.latency = latency
        """False: nothing takes time, so nothing drifts or settles."""
        self.filter = ImagingFilter(latency=latency)
        self.camera = Camera(self)
        self.images: dict[int, Image] = {}
        """Images not deleted yet, by their number; one that stays here has leaked."""
        self.missing_functions: set[str] = set()
        """Script functions that this spectrometer does not have."""
        self._beam = beam
        self._probe: tuple[float, float] | None = None
        self._recording = recording
        self.sample = Sample(seed)
        self.sensor = EelsCamera(seed, self.sample)
        self._drift = EnergyDrift(seed)
        self._born = time.monotonic()
        self._persistent = TagGroup()
        self._numbers = itertools.count(1)
        if recording is not None:
            self._tune_to(recording)

    def GetActiveCamera(self) -> Camera:
        return self.camera

    def GetCameraUnprocessedEnum(self) -> int:
        return 1

    def GetCameraGainNormalizedEnum(self) -> int:
        return 3

    def GetPersistentTagGroup(self) -> TagGroup:
        return self._persistent

    def Sleep(self, seconds: float) -> None:
        if self.latency:
            time.sleep(seconds)

    def DS_MoveBeamTo(self, x: float, y: float) -> None:
        """Move the probe; DigiScan keeps it there until it is sent to its safe position."""
        left, top, right, bottom = SCAN_RANGE
        self._probe = (x - left) / (right - left), (y - top) / (bottom - top)

    def DeleteImage(self, image: Image) -> None:
        """Delete an image; a view of its pixels shows garbage afterwards."""
        del self.images[image.GetID()]
        image._data.fill(np.array(-1).astype(image._data.dtype))

    def ExecuteScriptString(self, script: str) -> None:
        """Run DM-Script; results come back only through the persistent tag group."""
        _dm_script.run(script, self._script_functions())

    def _script_functions(self) -> dict[str, Any]:
        functions: dict[str, Any] = {
            "GetPersistentTagGroup": self.GetPersistentTagGroup,
            "TagGroupSetTagAsFloat": TagGroup.SetTagAsFloat,
            "TagGroupSetTagAsLong": TagGroup.SetTagAsLong,
            "TagGroupSetTagAsBoolean": TagGroup.SetTagAsBoolean,
            "TagGroupSetTagAsString": TagGroup.SetTagAsString,
            "DSSetBeamToSafePosition": lambda: setattr(self, "_probe", None),
            **self.filter.script_functions(),
        }
        for name in self.missing_functions:
            functions.pop(name, None)
        functions["DoesFunctionExist"] = lambda name: float(name in functions)
        return functions

    def _expose(self, exposure: float, top: int, bottom: int, y_bin: int, processing: int) -> Image:
        state = self.beam_state()
        if self._recording is not None:
            data = self._recording.spectrum(state.x, state.y)[np.newaxis].copy()
            saturated = 0.0
        else:
            expected = self._expected(state, exposure)
            data, saturated = self.sensor.read(expected, top, bottom, y_bin, processing)
        return self._image(data, self._tags(state, exposure, saturated))

    def beam_state(self) -> BeamState:
        """Return the present beam, with the probe where DigiScan holds it."""
        state = BeamState(**self._beam.snapshot())
        return state if self._probe is None else replace(state, x=self._probe[0], y=self._probe[1])

    def _expected(self, state: BeamState, exposure: float) -> NDArray[np.floating[Any]] | None:
        """Return the electrons per channel of an exposure, None when none arrive."""
        if not (state.on and self.camera.inserted):
            return None
        matter = self.sample.matter(*state.on_sample(state.x, state.y))
        electrons = state.current * exposure / ELEMENTARY_CHARGE
        start = self.filter.actual_energy_loss() - ZERO_LOSS_CHANNEL * self.filter.dispersion
        if self.latency:
            start -= self._drift.at(time.monotonic() - self._born)
        return self.sensor.expected(matter, electrons, start, self.filter.dispersion)

    def _empty_image(self, rows: int) -> Image:
        if self._recording is not None:
            channels = self._recording.data.shape[-1]
            return self._image(np.zeros((1, channels), self._recording.data.dtype), {})
        return self._image(np.zeros((rows, CHANNELS), np.float32), {})

    def _image(self, data: NDArray[Any], tags: dict[str, Any]) -> Image:
        image = Image(next(self._numbers), data, tags)
        start, dispersion = self.energy_calibration()
        image.SetDimensionCalibration(0, start, dispersion, "eV", 0)
        self.images[image.GetID()] = image
        return image

    def energy_calibration(self) -> tuple[float, float]:
        """Return the energy of the first channel (eV) and the dispersion (eV/channel)."""
        if self._recording is not None:
            return self._recording.start, self._recording.dispersion
        dispersion = self.filter.dispersion
        return self.filter.energy_loss - ZERO_LOSS_CHANNEL * dispersion, dispersion

    def _tune_to(self, recording: Recording) -> None:
        """Set the filter as in the recording, as closely as its steps allow."""
        loss = recording.start + ZERO_LOSS_CHANNEL * recording.dispersion
        self.filter.energy_loss = loss
        self.filter.dispersion_index = min(
            DISPERSIONS, key=lambda i: abs(math.log(DISPERSIONS[i] / recording.dispersion))
        )

    def _tags(self, state: BeamState, exposure: float, saturated: float) -> dict[str, Any]:
        """Return the tags of a real EELS image (names as in GMS files)."""
        filter_ = self.filter
        now = datetime.now()
        return {
            "Meta Data:Signal": "EELS",
            "Meta Data:Format": "Spectrum",
            "Meta Data:Acquisition Mode": "Parallel dispersive",
            "EELS Spectrometer:Instrument name": "Simulated GIF",
            "EELS Spectrometer:Instrument ID": 0,
            "EELS Spectrometer:Mode": filter_.mode,
            "EELS Spectrometer:Dispersion (eV/ch)": self.energy_calibration()[1],
            "EELS Spectrometer:Dispersion index": filter_.dispersion_index,
            "EELS Spectrometer:Energy loss (eV)": filter_.energy_loss,
            "EELS Spectrometer:Aperture index": filter_.aperture_index,
            "EELS Spectrometer:Aperture label": APERTURES[filter_.aperture_index],
            "EELS Spectrometer:Slit inserted": int(filter_.slit_inserted),
            "EELS:Acquisition:Exposure (s)": exposure,
            "EELS:Acquisition:Number of frames": 1,
            "EELS:Acquisition:Integration time (s)": exposure,
            "EELS:Acquisition:Saturation fraction": saturated,
            "EELS:Acquisition:Date": now.strftime("%d/%m/%Y"),
            "EELS:Acquisition:Start time": now.strftime("%H:%M:%S"),
            "EELS:Experimental Conditions:Collection semi-angle (mrad)": 62.0,
            "EELS:Experimental Conditions:Convergence semi-angle (mrad)": 21.0,
            "Microscope Info:Voltage": state.high_tension,
            "Microscope Info:Illumination Mode": "STEM NANOPROBE",
            "Microscope Info:Operation Mode": "SCANNING",
            "Microscope Info:STEM Camera Length": state.camera_length * 1e3,
            "Microscope Info:Probe Current (nA)": state.current * 1e9,
            "Microscope Info:Stage Position:Stage X": state.stage_x * 1e6,
            "Microscope Info:Stage Position:Stage Y": state.stage_y * 1e6,
            "Microscope Info:Stage Position:Stage Z": state.stage_z * 1e6,
            "Microscope Info:Stage Position:Stage Alpha": math.degrees(state.stage_alpha),
            "Microscope Info:Stage Position:Stage Beta": math.degrees(state.stage_beta),
            "Acquisition:Device:Name": self.camera.GetName(),
        }
