"""One spectrum, or several, at the beam's position."""

from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
from bluesky.utils import MsgGenerator

from bluesky_em.autoscript import Microscope
from bluesky_em.gatan import Spectrometer
from bluesky_em.plan_stubs import beam_on, per_shot, preflight


def spectrum(
    eels: Spectrometer,
    microscope: Microscope | None = None,
    *,
    exposure: float = 0.1,
    frames: int = 1,
    num: int = 1,
    md: dict[str, Any] | None = None,
) -> MsgGenerator[list[str]]:
    """Take spectra and return their references.

    Args:
        eels: the spectrometer.
        microscope: unblanks the beam for the exposures; without it the beam is not changed.
        exposure: of one frame, in s.
        frames: summed into each spectrum.
        num: number of spectra.
        md: metadata for the run.
    """
    references: list[str] = []

    @bpp.stage_decorator([eels])
    @bpp.run_decorator(md={"plan_name": "spectrum", "num_points": num, **(md or {})})
    def inner() -> MsgGenerator[None]:
        for _ in range(num):
            references.extend((yield from per_shot([eels])))

    yield from bps.mv(eels.exposure, exposure, eels.frames, frames)
    yield from preflight([eels], num)
    yield from beam_on(inner(), microscope) if microscope else inner()
    return references
