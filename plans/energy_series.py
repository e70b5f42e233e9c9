"""Spectra at several energy offsets, to be merged into one that is wider than the camera."""

from collections.abc import Sequence
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
from bluesky.utils import MsgGenerator

from bluesky_em.autoscript import Microscope
from bluesky_em.gatan import Spectrometer
from bluesky_em.plan_stubs import beam_on, per_shot, preflight


def energy_series(
    eels: Spectrometer,
    microscope: Microscope,
    *,
    offsets: Sequence[float] = (0.0, 400.0, 800.0),
    exposures: Sequence[float] = (0.01, 0.1, 0.5),
    md: dict[str, Any] | None = None,
) -> MsgGenerator[list[str]]:
    """Take a spectrum at each offset and return the references; the offset is restored.

    `bluesky_em.analysis.merge` joins them into one spectrum.

    Args:
        eels: the spectrometer.
        microscope: the beam is on during the spectra only.
        offsets: in eV.
        exposures: at each of them, in s.
        md: metadata for the run.

    Raises:
        ValueError: there are not as many exposures as offsets.
    """
    if len(offsets) != len(exposures):
        raise ValueError(f"{len(offsets)} offsets need as many exposures, not {len(exposures)}")
    about = {"plan_name": "energy_series", "num_points": len(offsets), "offsets": [*offsets]}
    references: list[str] = []

    @bpp.stage_decorator([eels])
    @bpp.run_decorator(md={**about, **(md or {})})
    def inner() -> MsgGenerator[None]:
        for offset, exposure in zip(offsets, exposures, strict=True):
            yield from bps.mv(eels.energy_offset, offset, eels.exposure, exposure)
            references.extend((yield from per_shot([eels, eels.energy_offset, eels.exposure])))

    before = yield from bps.rd(eels.energy_offset)
    yield from bps.mv(eels.frames, 1, eels.exposure, exposures[0])
    yield from preflight([eels], len(offsets))
    yield from bpp.finalize_wrapper(
        beam_on(inner(), microscope), bps.mv(eels.energy_offset, before)
    )
    return references
