"""Spectra along a line on the specimen."""

from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import numpy as np
from bluesky.utils import MsgGenerator

from bluesky_em.autoscript import Microscope
from bluesky_em.gatan import Spectrometer
from bluesky_em.plan_stubs import beam_on, per_shot, preflight


def line_scan(
    eels: Spectrometer,
    microscope: Microscope,
    *,
    start: tuple[float, float] = (0.1, 0.5),
    stop: tuple[float, float] = (0.9, 0.5),
    points: int = 20,
    exposure: float = 0.1,
    md: dict[str, Any] | None = None,
) -> MsgGenerator[list[str]]:
    """Take a spectrum at each point of a line and return the references.

    Args:
        eels: the spectrometer.
        microscope: moves the probe; the beam is on during the scan only.
        start: first point, `(x, y)` as fractions of the scan from its top left corner.
        stop: last point, likewise.
        points: their number, both ends included.
        exposure: at each point, in s.
        md: metadata for the run.
    """
    dimensions = [(["microscope-beam_x", "microscope-beam_y"], "primary")]
    about = {
        "plan_name": "line_scan",
        "num_points": points,
        "hints": {"dimensions": dimensions},
        "line": {"start": list(start), "stop": list(stop)},
    }

    references: list[str] = []

    @bpp.stage_decorator([eels])
    @bpp.run_decorator(md={**about, **(md or {})})
    def inner() -> MsgGenerator[None]:
        for x, y in np.linspace(start, stop, points):
            yield from bps.mv(microscope.beam_x, x, microscope.beam_y, y)
            references.extend((yield from per_shot([eels, microscope.beam_x, microscope.beam_y])))

    yield from bps.mv(eels.exposure, exposure, eels.frames, 1)
    yield from preflight([eels], points)
    yield from beam_on(inner(), microscope)
    return references
