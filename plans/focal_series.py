"""The same image at several foci."""

from collections.abc import Sequence
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
from bluesky.utils import MsgGenerator

from bluesky_em.autoscript import CameraImage, Microscope, ScanImage
from bluesky_em.plan_stubs import per_shot, preflight


def focal_series(
    image: ScanImage | CameraImage,
    microscope: Microscope,
    *,
    defoci: Sequence[float] = (-100e-9, -50e-9, 0.0, 50e-9, 100e-9),
    md: dict[str, Any] | None = None,
) -> MsgGenerator[list[str]]:
    """Take an image at each defocus, restore the focus, and return the references.

    Args:
        image: the scanned or camera image to take.
        microscope: changes the defocus.
        defoci: in m.
        md: metadata for the run.
    """
    references: list[str] = []

    @bpp.stage_decorator([image])
    @bpp.run_decorator(md={"plan_name": "focal_series", "num_points": len(defoci), **(md or {})})
    def inner() -> MsgGenerator[None]:
        for defocus in defoci:
            yield from bps.mv(microscope.defocus, defocus)
            references.extend((yield from per_shot([image, microscope.defocus])))

    yield from preflight([image], len(defoci))
    before = yield from bps.rd(microscope.defocus)

    def restore() -> MsgGenerator[None]:
        yield from bps.mv(microscope.defocus, before)

    yield from bpp.finalize_wrapper(inner(), restore)
    return references
