"""A survey image, and a map of each interesting region in it."""

from collections.abc import Callable
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import numpy as np
from bluesky.utils import MsgGenerator

from bluesky_em import Data, MapInfo, analysis
from bluesky_em.autoscript import Microscope, ScanImage
from bluesky_em.gatan import DarkField, Spectrometer
from bluesky_em.plan_stubs import beam_on, fly, per_shot, preflight, wait_for


def survey_and_map(
    haadf: ScanImage,
    eels: Spectrometer,
    adf: DarkField,
    microscope: Microscope,
    data: Data,
    *,
    choose: str | Callable[[np.ndarray], list[analysis.Region]] = "brightest_tiles",
    shape: tuple[int, int] = (32, 32),
    dwell: float = 1e-3,
    md: dict[str, Any] | None = None,
) -> MsgGenerator[list[str]]:
    """Scan a survey, choose regions in it, map each; return the last reference of each map.

    The plan waits for the survey to be stored, and for nothing else.

    Args:
        haadf: takes the survey of the whole scan, as it is set.
        eels: the spectrometer.
        adf: the dark field, recorded together with it.
        microscope: the beam is on during survey and maps only.
        data: reads the survey, e.g. `storage.data`.
        choose: returns the regions of an image: left, top, width, height as fractions of it; a
            function, or the name of one in `bluesky_em.analysis`.
        shape: lines of each map, and points of each line.
        dwell: at each point, in s.
        md: metadata for the run.
    """
    regions_of = getattr(analysis, choose) if isinstance(choose, str) else choose
    detectors = [eels, adf]
    references: list[str] = []

    @bpp.stage_decorator([haadf, *detectors])
    @bpp.run_decorator(md={"plan_name": "survey_and_map", "shape": [*shape], **(md or {})})
    def inner() -> MsgGenerator[None]:
        (survey,) = yield from beam_on(per_shot([haadf], "survey"), microscope)
        yield from wait_for(survey, data, until="stored")
        for number, region in enumerate(regions_of(data.open(survey).read())):
            info = MapInfo(shape=shape, livetime=dwell, region=region)
            map_ = fly(detectors, info, f"map_{number}")
            references.extend((yield from beam_on(map_, microscope)))

    yield from bps.mv(haadf.region, np.array([0.0, 0.0, 1.0, 1.0]))
    yield from preflight(detectors, shape[0] * shape[1], dwell)
    yield from inner()
    return references
