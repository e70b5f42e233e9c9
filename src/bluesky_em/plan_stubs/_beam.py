"""The beam, on only while it is needed."""

from __future__ import annotations

from typing import TypeVar

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
from bluesky.utils import MsgGenerator

from bluesky_em.autoscript import Microscope

P = TypeVar("P")


def beam_on(plan: MsgGenerator[P], microscope: Microscope) -> MsgGenerator[P]:
    """Run a plan with the beam on the specimen; blank it however the plan ends."""

    def unblanked() -> MsgGenerator[P]:
        yield from bps.mv(microscope.beam_blanked, False)
        return (yield from plan)

    def blank() -> MsgGenerator[None]:
        yield from bps.mv(microscope.beam_blanked, True)

    return (yield from bpp.finalize_wrapper(unblanked(), blank))
