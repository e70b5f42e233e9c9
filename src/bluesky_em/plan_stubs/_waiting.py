"""Awaiting something within a plan."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import bluesky.plan_stubs as bps
from bluesky.utils import MsgGenerator

T = TypeVar("T")


def run_async(function: Callable[[], Awaitable[T]]) -> MsgGenerator[T]:
    """Await something; unlike `bps.wait_for` alone, give what it returns, raise what it raises.

    A pause breaks it off, and it begins anew once the plan is resumed.
    """
    begun: list[asyncio.Future[T]] = []

    def begin() -> Awaitable[T]:
        begun.append(asyncio.ensure_future(function()))
        begun[-1].add_done_callback(_look_at)
        return begun[-1]

    # not what `wait_for` gives: after a pause that is nothing
    yield from bps.wait_for([begin])
    while not begun[-1].done():
        yield from bps.wait_for([lambda: begun[-1]])
    return begun[-1].result()


def _look_at(future: asyncio.Future[T]) -> None:
    """Keep asyncio from complaining of one that nobody waits for any more."""
    if not future.cancelled():
        future.exception()
