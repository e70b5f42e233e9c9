"""A spectrum image: a map of spectra in one fly scan, together with the dark field."""

from typing import Any, Literal

import bluesky.preprocessors as bpp
from bluesky.utils import MsgGenerator

from bluesky_em import MapInfo
from bluesky_em.autoscript import Microscope
from bluesky_em.gatan import DarkField, Spectrometer
from bluesky_em.plan_stubs import beam_on, fly, preflight


def spectrum_image(
    eels: Spectrometer,
    microscope: Microscope,
    adf: DarkField | None = None,
    *,
    shape: tuple[int, int] = (64, 64),
    dwell: float = 1e-3,
    region: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0),
    sync: Literal["hardware", "software"] = "hardware",
    md: dict[str, Any] | None = None,
) -> MsgGenerator[list[str]]:
    """Take a map and return the last reference of each detector.

    Args:
        eels: the spectrometer.
        microscope: the beam is on during the map only.
        adf: the dark field; without it, or with software synchronisation, none is recorded.
        shape: lines, and points of each line.
        dwell: at each point, in s.
        region: left, top, width, height as fractions of the whole scan.
        sync: as for `MapInfo`.
        md: metadata for the run.
    """
    info = MapInfo(shape=shape, livetime=dwell, region=region, sync=sync)
    detectors = [eels] if adf is None or sync == "software" else [eels, adf]
    about = {"plan_name": "spectrum_image", "shape": [*shape], "num_points": shape[0] * shape[1]}

    references: list[str] = []

    @bpp.stage_decorator(detectors)
    @bpp.run_decorator(md={**about, **(md or {})})
    def inner() -> MsgGenerator[None]:
        references.extend((yield from fly(detectors, info)))

    yield from preflight(detectors, info.points, dwell)
    yield from beam_on(inner(), microscope)
    return references
