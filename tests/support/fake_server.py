"""A real acquisition server around a driver of no instrument, and lines to it."""

import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bluesky_em.acquisition.client._client import AsyncClient, Client, client_for, close_all
from bluesky_em.acquisition.instrument_pc.exposure import Exposure
from bluesky_em.acquisition.instrument_pc.server import serve

PATIENCE = 10.0  # seconds a test waits for what must come at once
LIMITS = [-200.0, 3000.0]


class FakeDriver:
    """A driver of no instrument: exposes `array`, holds settings in a dict.

    Attributes:
        block: while set, an exposure lasts until `abort`.
        exposing: set while an exposure that was told to block lasts.
        meanwhile: called during each exposure.
    """

    FIXED_IN_FLIGHT = ("energy_offset",)

    def __init__(self) -> None:
        self.array = np.arange(4, dtype="<f4")
        self.values: dict[str, Any] = {"energy_offset": 0.0, "aperture": "5 mm"}
        self.calls: list[str] = []
        self.block = threading.Event()
        self.exposing = threading.Event()
        self.aborted = threading.Event()
        self.parked = threading.Event()
        self.meanwhile: Callable[[], object] = lambda: None

    def identity(self) -> dict[str, Any]:
        return {"vendor": "None", "name": "fake"}

    def settings(self) -> dict[str, dict[str, Any]]:
        return {
            "energy_offset": {"units": "eV", "dtype": "float", "writable": True, "limits": LIMITS},
            "aperture": {"units": "", "dtype": "str", "writable": False, "limits": None},
        }

    def get(self, name: str) -> Any:
        return self.values[name]

    def set(self, name: str, value: Any) -> Any:
        if not LIMITS[0] <= value <= LIMITS[1]:
            raise ValueError(f"{name} is {value}; it must be between -200 and 3000")
        self.values[name] = round(value, 1)
        return self.values[name]

    def layout(self, detector: str, options: dict[str, Any]) -> tuple[tuple[int, ...], str]:
        return self.array.shape, self.array.dtype.str

    def expose(self, detector: str, options: dict[str, Any]) -> Exposure:
        self.calls.append("expose")
        started = time.time()
        self.meanwhile()
        if self.block.is_set():
            self.aborted.clear()
            self.exposing.set()
            assert self.aborted.wait(PATIENCE), "nobody aborted this exposure"
            self.exposing.clear()
            raise RuntimeError("aborted")
        axes = [
            {"name": f"axis{i}", "units": "eV", "offset": 0.0, "scale": 1.0, "size": size}
            for i, size in enumerate(self.array.shape)
        ]
        return Exposure(self.array.copy(), axes, dict(options), started, time.time())

    def abort(self) -> None:
        self.calls.append("abort")
        self.block.clear()
        self.aborted.set()

    def park(self) -> None:
        self.parked.set()


@contextlib.contextmanager
def served(
    driver: FakeDriver,
    spool: Path,
    *,
    port: int = 0,
    host: str = "127.0.0.1",
    spool_limit: int | None = None,
):
    """A real acquisition server in a thread; gives its address."""
    ready, started = threading.Event(), []
    thread = threading.Thread(
        target=serve,
        args=(driver, "eels_server", host, port, str(spool)),
        kwargs={
            "started": lambda *args: (started.extend(args), ready.set()),
            "spool_limit": spool_limit,
        },
    )
    thread.start()
    assert ready.wait(PATIENCE)
    uri, stop = started
    try:
        yield uri
    finally:
        stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()


@contextlib.contextmanager
def calling(uri: str, token: str | None = None) -> Iterator[Client]:
    line = Client(uri, token=token)
    try:
        yield line
    finally:
        line.close()


@contextlib.asynccontextmanager
async def lanes_to(uri: str) -> AsyncIterator[AsyncClient]:
    """The link that devices use, hung up at the end."""
    try:
        yield client_for(uri)
    finally:
        close_all()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
