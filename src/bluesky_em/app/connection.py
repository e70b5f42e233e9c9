"""The connection of all devices of a laboratory, together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping

from ophyd_async.core import Device, NotConnectedError

CONNECT_TIMEOUT = 60.0  # s for all devices together


def connect(
    devices: Mapping[str, Device],
    loop: asyncio.AbstractEventLoop,
    *,
    mock: bool = False,
    timeout: float = CONNECT_TIMEOUT,
) -> dict[str, BaseException]:
    """Connect devices; return the error of each that could not be connected.

    Args:
        devices: by name.
        loop: the event loop of the RunEngine that will use them; it runs in another thread.
        mock: connect each to a mock in place of its instrument.
        timeout: for all together, in s.

    Raises:
        TimeoutError: they have not all been tried by then.
    """

    async def connect_all() -> list[BaseException | None]:
        coroutines = [device.connect(mock=mock) for device in devices.values()]
        return await asyncio.gather(*coroutines, return_exceptions=True)

    outcomes = asyncio.run_coroutine_threadsafe(connect_all(), loop).result(timeout)
    return {name: exc for name, exc in zip(devices, outcomes, strict=True) if exc is not None}


def reasons(error: BaseException) -> Iterator[str]:
    """Yield the reasons in a tree of connection errors."""
    parts = error.sub_errors if isinstance(error, NotConnectedError) else {}
    for part in parts.values():
        yield from reasons(part)
    if not parts:
        yield str(error).strip()
