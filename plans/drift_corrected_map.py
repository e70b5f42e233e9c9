"""A map in blocks of lines, corrected for the specimen's drift."""

from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import numpy as np
from bluesky.utils import MsgGenerator

from bluesky_em import Data, MapInfo
from bluesky_em.analysis import shift
from bluesky_em.autoscript import Microscope, ScanImage
from bluesky_em.gatan import DarkField, Spectrometer
from bluesky_em.plan_stubs import beam_on, fly, per_shot, preflight, wait_for


def drift_corrected_map(
    haadf: ScanImage,
    eels: Spectrometer,
    adf: DarkField,
    microscope: Microscope,
    data: Data,
    *,
    shape: tuple[int, int] = (32, 32),
    dwell: float = 1e-3,
    region: tuple[float, float, float, float] = (0.3, 0.3, 0.4, 0.4),
    lines: int = 8,
    md: dict[str, Any] | None = None,
) -> MsgGenerator[list[tuple[float, float]]]:
    """Take a map, with a reference image before each block of lines; return the drifts.

    Each block is moved by the specimen's drift, from the cross-correlation of its reference image
    with the first one. A block that would leave the scan is taken at the scan's border.

    Args:
        haadf: takes the reference images of the whole scan, as it is set.
        eels: the spectrometer.
        adf: the dark field, recorded together with it.
        microscope: the beam is on during images and blocks only.
        data: reads the reference images, e.g. `storage.data`.
        shape: lines of the map, and points of each line.
        dwell: at each point, in s.
        region: left, top, width, height as fractions of the whole scan.
        lines: lines of a block.
        md: metadata for the run.

    Returns:
        The drift before each block, (x, y) in fractions of the scan.
    """
    detectors = [eels, adf]
    drifts: list[tuple[float, float]] = []
    about = {
        "plan_name": "drift_corrected_map",
        "shape": [*shape],
        "num_points": shape[0] * shape[1],
    }

    def drift_since(first: str, reference: str) -> tuple[float, float]:
        before, now = (data.open(each).read().astype(float) for each in (first, reference))
        down, right = shift(before, now)
        return right / now.shape[1], down / now.shape[0]

    @bpp.stage_decorator([haadf, *detectors])
    @bpp.run_decorator(md={**about, **(md or {})})
    def inner() -> MsgGenerator[None]:
        first = ""
        for begin in range(0, shape[0], lines):
            (reference,) = yield from beam_on(per_shot([haadf], "reference"), microscope)
            yield from wait_for(reference, data, until="stored")
            first = first or reference
            drifts.append(drift_since(first, reference))
            block = min(lines, shape[0] - begin)
            height = region[3] * block / shape[0]
            left = np.clip(region[0] + drifts[-1][0], 0, 1 - region[2])
            top = np.clip(region[1] + region[3] * begin / shape[0] + drifts[-1][1], 0, 1 - height)
            place = (float(left), float(top), region[2], height)
            info = MapInfo(shape=(block, shape[1]), livetime=dwell, region=place)
            yield from beam_on(fly(detectors, info, "map"), microscope)

    yield from bps.mv(haadf.region, np.array([0.0, 0.0, 1.0, 1.0]))
    yield from preflight(detectors, shape[0] * shape[1], dwell)
    yield from inner()
    return drifts
