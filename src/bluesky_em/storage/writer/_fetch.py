"""Fetch a frame from its spool, and check its bytes."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import stamina

from bluesky_em.acquisition.client import FrameHeader, SpoolClient
from bluesky_em.acquisition.instrument_pc.faults import step
from bluesky_em.acquisition.instrument_pc.protocol import MAX_FETCH
from bluesky_em.frame import Frame
from bluesky_em.update_modes import UpdateMode

TRIES_LIMIT = 5  # of a frame whose bytes arrive wrong, each time in another way


class Corrupt(Exception):
    """The bytes that arrived from the spool do not match the frame's checksum."""


def fetch(
    spool: SpoolClient, frame: Frame, progress: Callable[[], None]
) -> tuple[Frame, np.ndarray]:
    """Fetch a frame's pixels, and the facts that only its spool has.

    Args:
        spool: of the frame's acquisition server.
        frame: as its documents describe it.
        progress: called after each part has arrived.

    Raises:
        LookupError: the spool has no such frame.
        Corrupt: other bytes have arrived, twice the same, as from a damaged spool, or
            `TRIES_LIMIT` times.
    """
    seen: set[str] = set()

    def may_be_the_network(exc: Exception) -> bool:
        is_new = str(exc) not in seen
        seen.add(str(exc))
        return isinstance(exc, Corrupt) and is_new

    again = stamina.retry(  # at once: other frames wait, and there may be many damaged ones
        on=may_be_the_network, attempts=TRIES_LIMIT, timeout=None,
        wait_initial=0, wait_max=0, wait_jitter=0,
    )  # fmt: skip
    return again(_fetch_once)(spool, frame, progress)


def _fetch_once(
    spool: SpoolClient, frame: Frame, progress: Callable[[], None]
) -> tuple[Frame, np.ndarray]:
    checksum, size = frame.checksum, frame.nbytes
    if frame.flown:
        header = spool.header(frame.reference)
        checksum, size = header["checksum"], header["nbytes"]
        frame = replace(frame, ended=header["ended"], index=_index(frame, header))
    data = bytearray()
    for start in range(0, size, MAX_FETCH):
        data += spool.fetch(frame.reference, start, MAX_FETCH)
        progress()
    step("writer: fetching")
    if len(data) != size or size < frame.nbytes or zlib.crc32(data) != checksum:
        raise Corrupt(
            f"{frame.reference}: {len(data)} bytes arrived with CRC-32 {zlib.crc32(data):08x}, "
            f"expected {size} bytes with {checksum:08x}"
        )
    # The last block of a fly scan may have more frames than its documents announce.
    covered = memoryview(data)[: frame.nbytes]
    if len(covered) < size:
        checksum = zlib.crc32(covered)
    pixels = np.frombuffer(covered, dtype=frame.dtype).reshape(frame.count, *frame.shape)
    return replace(frame, checksum=checksum), pixels


def _index(frame: Frame, header: FrameHeader) -> tuple[int, ...] | None:
    """Return the frame's position in its array, if only the instrument knows it."""
    place = header["metadata"].get("index")
    has_one = frame.update is not None and frame.update.get("mode") == UpdateMode.ADD_SLICE
    return tuple(place) if has_one and place is not None else None
