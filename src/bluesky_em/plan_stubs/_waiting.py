"""Awaiting a coroutine within a plan."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import bluesky.plan_stubs as bps
from bluesky.utils import MsgGenerator

T = TypeVar("T")


def run_async(function: Callable[[], Awaitable[T]]) -> MsgGenerator[T]:
    """Await a coroutine; return what it returns, raise what it raises, unlike `bps.wait_for`.

    A pause cancels it, and it begins again when the plan is resumed.
    """
    begun: list[asyncio.Future[T]] = []

    def begin() -> Awaitable[T]:
        begun.append(asyncio.ensure_future(function()))
        begun[-1].add_done_callback(_retrieve)
        return begun[-1]

    # the result of `wait_for` is lost after a pause
    yield from bps.wait_for([begin])
    while not begun[-1].done():
        yield from bps.wait_for([lambda: begun[-1]])
    return begun[-1].result()


def _retrieve(future: asyncio.Future[T]) -> None:
    """Retrieve the exception, or asyncio warns of a future that is no longer awaited."""
    if not future.cancelled():
        future.exception()
