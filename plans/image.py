"""One image."""

from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
from bluesky.utils import MsgGenerator

from bluesky_em.autoscript import ScanImage
from bluesky_em.plan_stubs import per_shot, preflight


def image(
    scan: ScanImage,
    *,
    detector: str = "HAADF",
    size: int = 512,
    dwell: float = 1e-6,
    md: dict[str, Any] | None = None,
) -> MsgGenerator[list[str]]:
    """Scan one image and return its reference; the beam is on during the scan only.

    Args:
        scan: the scanned image.
        detector: AutoScript's name, e.g. `HAADF`, `BF`.
        size: pixels along each side.
        dwell: at each pixel, in s.
        md: metadata for the run.
    """
    references: list[str] = []

    @bpp.stage_decorator([scan])
    @bpp.run_decorator(md={"plan_name": "image", "num_points": 1, **(md or {})})
    def inner() -> MsgGenerator[None]:
        references.extend((yield from per_shot([scan])))

    yield from bps.mv(scan.detector, detector, scan.size, size, scan.dwell, dwell)
    yield from preflight([scan], 1)
    yield from inner()
    return references
