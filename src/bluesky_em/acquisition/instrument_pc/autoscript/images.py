"""Scan images and camera images: options, acquisition, axes and metadata (Python 3.7 syntax)."""

from __future__ import annotations

import math
import re
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence, Tuple, Union

import numpy as np

from ..calibration import number
from ..limits import in_limits, one_of, region_in_scan
from .settings import STAGE_AXES

DWELL_LIMITS = (1e-9, 1e-2)  # s per pixel
SCAN_TIME_LIMIT = 600.0  # s; a longer scan is a mistake, and so is its dose
CAMERA_EXPOSURE_LIMITS = (1e-7, 10.0)  # s
SCAN_SIZES = (128, 256, 512, 1024, 2048, 4096)  # px
CAMERA_SIZES = (512, 1024, 2048, 4096)  # px

WHOLE_SCAN = (0.0, 0.0, 1.0, 1.0)
_OPTIONS = {
    "scan_image": ("detector", "size", "dwell", "region"),
    "camera_image": ("camera", "size", "exposure"),
}


class ScanOptions(NamedTuple):
    """Checked options of a scan image."""

    detector: str
    size: int
    """Pixels along the whole scan."""
    dwell: float
    """s per pixel"""
    region: Tuple[float, float, float, float]
    """Left, top, width, height in fractions of the whole scan."""

    @property
    def shape(self) -> Tuple[int, int]:
        """Rows and columns of the image."""
        width, height = self.region[2:]
        return max(1, round(height * self.size)), max(1, round(width * self.size))


class CameraOptions(NamedTuple):
    """Checked options of a camera image."""

    camera: str
    size: int
    """Pixels along each side."""
    exposure: float
    """s"""

    @property
    def shape(self) -> Tuple[int, int]:
        """Rows and columns of the image."""
        return self.size, self.size


ImageOptions = Union[ScanOptions, CameraOptions]


def check_options(
    detector: str,
    options: Mapping[str, Any],
    scanning_detectors: Sequence[str],
    cameras: Sequence[str],
) -> ImageOptions:
    """Return the options of an image, checked and with defaults.

    Args:
        detector: `scan_image` or `camera_image`.
        options: of the exposure.
        scanning_detectors: the microscope's.
        cameras: the microscope's.

    Raises:
        ValueError: one is unknown or not allowed; the message says what is.
    """
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
    if detector == "scan_image":
        return _scan_options(options, scanning_detectors)
    return _camera_options(options, cameras)


def acquire(client: Any, structures: Any, enumerations: Any, options: ImageOptions) -> Any:
    """Take an image and return it in the vendor's class; blocks until it has ended.

    Args:
        client: the vendor's, connected.
        structures: the vendor's module of that name.
        enumerations: the vendor's module of that name.
        options: as checked.
    """
    if isinstance(options, CameraOptions):
        return client.acquisition.acquire_camera_image_advanced(
            structures.CameraAcquisitionSettings(
                camera_detector=options.camera,
                size=options.size,
                exposure_time=options.exposure,
            )
        )
    images = client.acquisition.acquire_stem_images_advanced(
        structures.StemAcquisitionSettings(
            dwell_time=options.dwell,
            detector_types=[options.detector],
            region=structures.Region(
                enumerations.RegionCoordinateSystem.RELATIVE,
                structures.Rectangle(*options.region),
            ),
            size=options.size,
        )
    )
    return images[0] if isinstance(images, (list, tuple)) else images


def pixels_of(image: Any) -> np.ndarray:
    """Return the pixels of a vendor's image, C-contiguous and little-endian."""
    data = np.ascontiguousarray(image.data)
    return data.astype(data.dtype.newbyteorder("<"), copy=False)


def axes_of(image: Any, shape: Tuple[int, ...], options: ImageOptions) -> List[Dict[str, Any]]:
    """Return the y and x axes from the image's pixel size, 0 in the middle of the whole scan."""
    size, units = _pixel_size(image)
    left, top, width, height = getattr(options, "region", WHOLE_SCAN)
    rows, cols = shape
    return [
        _axis("y", units, size[1], rows, (top - 0.5) / height),
        _axis("x", units, size[0], cols, (left - 0.5) / width),
    ]


def metadata_of(image: Any, options: ImageOptions, axes: List[Dict[str, Any]]) -> Dict[str, Any]:
    """Collect the image's own metadata; reading it back later costs calls, and may have changed."""
    facts: Dict[str, Any] = {"size": options.size, "frames": 1, "signal_type": ""}
    if isinstance(options, ScanOptions):
        facts["detector"], facts["dwell_time"] = options.detector, options.dwell
        left, top, width, height = options.region
        facts["region"] = {"left": left, "top": top, "width": width, "height": height}
        facts["exposure"] = options.dwell * axes[0]["size"] * axes[1]["size"]
    else:
        facts["detector"], facts["exposure"] = options.camera, options.exposure
    voltage = re.search(
        r"<AccelerationVoltage>([^<]+)<", str(_follow(image.metadata, "metadata_as_xml"))
    )
    if voltage is not None:
        facts["beam_energy"] = number(voltage.group(1)) / 1e3  # keV; NaN is left out
    for name, path in (
        ("defocus", "optics.defocus"),
        ("scan_rotation", "scan_settings.scan_rotation"),
    ):
        value = _follow(image.metadata, path)
        if value is not None:
            facts[name] = number(value)
    position = _follow(image.metadata, "stage_settings.stage_position")
    if position is not None:
        facts["stage"] = {
            name: number(getattr(position, axis))
            for name, axis in STAGE_AXES.items()
            if math.isfinite(number(getattr(position, axis, None)))
        }
    return facts


def _scan_options(options: Mapping[str, Any], detectors: Sequence[str]) -> ScanOptions:
    dwell = in_limits("dwell", options.get("dwell", 1e-6), DWELL_LIMITS, "s")
    region = options.get("region")
    scan = ScanOptions(
        one_of("detector", options.get("detector", "HAADF"), detectors),
        one_of("size", options.get("size", 512), SCAN_SIZES),
        dwell,
        WHOLE_SCAN if region is None else region_in_scan(region),
    )
    if min(scan.region[2:]) * scan.size < 0.5:
        raise ValueError(
            "region is {!r}; its width and height must be at least a pixel, that is {:.6g} of "
            "the scan at size {}.".format(options["region"], 1 / scan.size, scan.size)
        )
    seconds = dwell * scan.shape[0] * scan.shape[1]
    if seconds > SCAN_TIME_LIMIT:
        raise ValueError(
            "A scan of {} x {} pixels at dwell {:.6g} s takes {:.6g} s; {:.6g} s is the limit, "
            "for the specimen's sake. Lower dwell or size.".format(
                scan.shape[0], scan.shape[1], dwell, seconds, SCAN_TIME_LIMIT
            )
        )
    return scan


def _camera_options(options: Mapping[str, Any], cameras: Sequence[str]) -> CameraOptions:
    default = cameras[0] if cameras else ""
    exposure = in_limits("exposure", options.get("exposure", 0.1), CAMERA_EXPOSURE_LIMITS, "s")
    return CameraOptions(
        one_of("camera", options.get("camera", default), cameras),
        one_of("size", options.get("size", 512), CAMERA_SIZES),
        exposure,
    )


def _axis(name: str, units: str, scale: float, size: int, edge: float) -> Dict[str, Any]:
    """Return an axis; `edge` is where its first pixel begins, in lengths of the axis."""
    offset = (edge * size + 0.5) * scale
    return {"name": name, "units": units, "offset": offset, "scale": scale, "size": size}


def _pixel_size(image: Any) -> Tuple[Tuple[float, float], str]:
    result = _follow(image.metadata, "binary_result")
    pixel = _follow(result, "pixel_size")
    if pixel is None:
        return (1.0, 1.0), "px"
    units = _follow(result, "pixel_size_x_unit")
    return (number(pixel.x), number(pixel.y)), "m" if units is None else str(units)


def _follow(node: Any, path: str) -> Any:
    """Follow a path of attributes; None where the vendor's metadata ends earlier."""
    for name in path.split("."):
        node = getattr(node, name, None)
    return node
