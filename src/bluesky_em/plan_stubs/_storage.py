"""Wait for storage within a plan, and check its room before one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

from bluesky.utils import MsgGenerator

from bluesky_em.data import Data
from bluesky_em.detector import RefDetector

from ._other_files import folders
from ._waiting import run_async

logger = logging.getLogger(__name__)


def wait_for(references: str | Sequence[str], data: Data, **options: Any) -> MsgGenerator[None]:
    """Wait, within a plan, for references, as `data.wait(references, **options)` does.

    The RunEngine stays responsive: Ctrl-C pauses as usual.
    """

    async def wait() -> None:
        await asyncio.to_thread(data.wait, references, **options)

    yield from run_async(wait)


def preflight(detectors: Sequence[Any], frames: int, livetime: float = 0.0) -> MsgGenerator[None]:
    """Check before a run begins that its frames will fit; changes nothing.

    A detector of another package whose files Tiled may not read is named in a warning, with what
    to do: its data would be kept, but could not be opened.

    Args:
        detectors: set up as for the run; at least one of ours knows the Storage.
        frames: the number that each will take.
        livetime: of each frame, in s, for a fly scan; 0: as the detectors are set.

    Raises:
        NotEnoughSpace: the storage disk has not enough free space, or cannot be written.
        ValueError: a frame is larger than its spool.
    """
    ours = [detector for detector in detectors if isinstance(detector, RefDetector)]
    for detector in ours:
        yield from run_async(partial(detector.preflight, frames, livetime))
    for other in detectors if ours else ():
        if not isinstance(other, RefDetector):
            _warn_if_unreadable(other, ours[0])


def _warn_if_unreadable(other: Any, ours: RefDetector) -> None:
    for folder in folders(other):
        if why := ours.why_unreadable(folder):
            logger.warning(
                "%s writes into %s: %s", other.name, folder, why, extra={"action": "readable"}
            )
