"""The value structures, enumerations and errors of the AutoScript look-alike (vendor's names)."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray


class ApplicationServerException(Exception):  # noqa: N818 - the vendor's name
    """The microscope's server refused or failed."""


class ApiException(Exception):  # noqa: N818 - the vendor's name
    """The client cannot make a call."""


@dataclass
class Point:
    """Two coordinates."""

    x: float = 0.0
    y: float = 0.0


@dataclass
class Limits:
    """Lowest and highest value allowed."""

    min: float
    max: float


@dataclass
class Rectangle:
    """An area, in fractions of the scan."""

    left: float
    top: float
    width: float
    height: float


@dataclass
class Region:
    """An area and what its numbers are relative to."""

    coordinate_system: str
    rectangle: Rectangle


@dataclass
class StagePosition:
    """x, y, z in m, a, b in rad; None leaves an axis where it is."""

    x: float | None = None
    y: float | None = None
    z: float | None = None
    a: float | None = None
    b: float | None = None


@dataclass
class CameraLengthData:
    """One camera length the projector offers, in m."""

    nominal: float
    calibrated: float
    label: str = ""


@dataclass
class StemAcquisitionSettings:
    """How to scan."""

    dwell_time: float = 1e-6
    """s"""
    detector_types: list[str] = field(default_factory=lambda: ["HAADF"])
    detector_segments: list[str] | None = None
    region: Region | None = None
    size: int = 512
    """Pixels along the whole scan."""


@dataclass
class CameraAcquisitionSettings:
    """How to read a camera."""

    camera_detector: str = "BM-Ceta"
    size: int = 512
    exposure_time: float = 0.1
    """s"""
    fixed_readout_area: str = "Full"
    frame_combining: int = 1
    electron_counting: bool = True


class AdornedImage:
    """An image and what the microscope wrote beside it."""

    def __init__(self, data: NDArray[Any], metadata: Any) -> None:
        self.data: NDArray[np.uint16] = data
        self.metadata = metadata
        self.height, self.width = data.shape
        self.bit_depth = 8 * data.dtype.itemsize


def image_metadata(
    *, detector: str, pixel_size: float, unit: str, high_tension: float, stage: Any, **more: Any
) -> SimpleNamespace:
    """Return metadata as the vendor nests it; `pixel_size` in `unit` per pixel."""
    return SimpleNamespace(
        binary_result=SimpleNamespace(
            detector=detector,
            pixel_size=Point(pixel_size, pixel_size),
            pixel_size_x_unit=unit,
        ),
        stage_settings=SimpleNamespace(stage_position=stage),
        metadata_as_xml=(
            "<Metadata><Optics><AccelerationVoltage>"
            f"{high_tension!r}</AccelerationVoltage></Optics></Metadata>"
        ),
        **more,
    )


structures = SimpleNamespace(
    Point=Point,
    Limits=Limits,
    Rectangle=Rectangle,
    Region=Region,
    StagePosition=StagePosition,
    CameraLengthData=CameraLengthData,
    StemAcquisitionSettings=StemAcquisitionSettings,
    CameraAcquisitionSettings=CameraAcquisitionSettings,
    AdornedImage=AdornedImage,
)
enumerations = SimpleNamespace(
    RegionCoordinateSystem=SimpleNamespace(RELATIVE="Relative", ABSOLUTE="Absolute"),
    OpticalMode=SimpleNamespace(STEM="Stem", TEM="Tem"),
    DetectorType=SimpleNamespace(HAADF="HAADF", BF="BF", DF2="DF2", DF4="DF4"),
    CameraType=SimpleNamespace(BM_CETA="BM-Ceta", FLUCAM="Flucam"),
)
