"""Types of an acquisition server's answers.

Dictionaries, as they come over the network: most of a frame's header goes into documents as it is.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

FrameLayout = tuple[list[int], str]
"""Shape and dtype of a frame, e.g. `([2048], "<f4")`."""


class FrameHeader(TypedDict):
    """Description of one entry of a spool: a frame, or in a fly scan a block of frames."""

    reference: str
    """of its first frame"""
    shape: list[int]
    """of a frame `(*frame)`; of a block `(frames, *frame)`"""
    dtype: str
    """numpy string, e.g. `<f4`"""
    nbytes: int
    checksum: int
    """CRC-32 of its bytes"""
    axes: list[dict[str, Any]]
    """of a frame, one per dimension: name, units, offset, scale, size"""
    metadata: dict[str, Any]
    started: float
    """`time.time()` of the instrument PC at the beginning of the exposure"""
    ended: float
    """the same at its end"""
    summary: NotRequired[dict[str, Any]]
    """only in the answer to `expose` and `keep`; see `summary.summarise`"""


class Progress(TypedDict):
    """Progress of one detector in its fly scan."""

    captured: int
    """frames in the spool"""
    block: int
    """frames per block; 0 before the fly scan begins"""
    done: bool
    error: str
    """why it ended early; empty if it did not"""
    waiting: str
    """what it waits for, e.g. room in the spool; empty if it does not wait"""
    header: FrameHeader | None
    """of the first block; None before there is one"""


class ServerStatus(TypedDict):
    """State of an acquisition server."""

    exposing: bool
    frames: int
    """in the spool"""
    bytes: int
    """of the frames in the spool"""
    capacity: int
    """bytes that the spool can hold"""
    time: float
    """`time.time()` of the instrument PC"""
    protocol: int
    """version of the calls that the server understands"""
