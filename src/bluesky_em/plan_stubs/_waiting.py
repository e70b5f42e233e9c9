"""Awaiting something within a plan."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import bluesky.plan_stubs as bps
from bluesky.utils import MsgGenerator

T = TypeVar("T")


def run_async(function: Callable[[], Awaitable[T]]) -> MsgGenerator[T]:
    """Await something; unlike `bps.wait_for` alone, give what it returns, raise what it raises."""
    (task,) = yield from bps.wait_for([function])
    return task.result()
