"""Wait for storage within a plan, and check its room before one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

from bluesky.utils import MsgGenerator

from bluesky_em.data import Data
from bluesky_em.detector import RefDetector

from ._waiting import run_async


def wait_for(references: str | Sequence[str], data: Data, **options: Any) -> MsgGenerator[None]:
    """Wait, within a plan, for references, as `data.wait(references, **options)` does.

    The RunEngine stays responsive: Ctrl-C pauses as usual.
    """

    async def wait() -> None:
        await asyncio.to_thread(data.wait, references, **options)

    yield from run_async(wait)


def preflight(
    detectors: Sequence[RefDetector], frames: int, livetime: float = 0.0
) -> MsgGenerator[None]:
    """Check before a run begins that its frames will fit; changes nothing.

    Args:
        detectors: set up as for the run.
        frames: the number that each will take.
        livetime: of each frame, in s, for a fly scan; 0: as the detectors are set.

    Raises:
        NotEnoughSpace: the storage disk has not enough free space, or cannot be written.
        ValueError: a frame is larger than its spool.
    """
    for detector in detectors:
        yield from run_async(partial(detector.preflight, frames, livetime))
