"""A real acquisition server around a driver of no instrument, and clients of it."""

import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bluesky_em.acquisition.client import Client, InstrumentClient, client_for, close_all
from bluesky_em.acquisition.instrument_pc.driver import Driver
from bluesky_em.acquisition.instrument_pc.exposure import Exposure
from bluesky_em.acquisition.instrument_pc.server import serve

PATIENCE = 60.0  # seconds a test waits for an event that must come at once
LIMITS = [-200.0, 3000.0]


class FakeDriver(Driver):
    """A driver of no instrument: exposes `array`, holds settings in a dict.

    Attributes:
        block: while set, an exposure lasts until `abort`.
        exposing: set while a blocked exposure lasts.
        meanwhile: called during each exposure.
    """

    FIXED_IN_FLY_SCAN = ("energy_offset",)

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
        return {"vendor": "None", "name": "fake", "simulated": True}

    def settings(self) -> dict[str, dict[str, Any]]:
        common = {"units": "", "dtype": "str", "writable": False, "limits": None, "choices": None}
        offset = {"units": "eV", "dtype": "float", "writable": True, "limits": LIMITS}
        return {"energy_offset": common | offset, "aperture": common}

    def get(self, name: str) -> Any:
        if name not in self.values:
            raise ValueError(f"There is no setting '{name}'.")
        return self.values[name]

    def set(self, name: str, value: Any) -> Any:
        if name != "energy_offset":
            raise ValueError(f"{name} cannot be set.")
        if not LIMITS[0] <= value <= LIMITS[1]:
            raise ValueError(f"{name} is {value}; it must be between -200 and 3000")
        self.values[name] = round(float(value), 1)
        return self.values[name]

    def layout(self, detector: str, options: Mapping[str, Any]) -> tuple[tuple[int, ...], str]:
        if detector not in ("eels", "fake"):
            raise ValueError(f"There is no detector '{detector}'.")
        if unknown := set(options) - {"exposure"}:
            raise ValueError(f"{detector} has no option '{unknown.pop()}'.")
        return self.array.shape, self.array.dtype.str

    def expose(self, detector: str, options: Mapping[str, Any]) -> Exposure:
        self.layout(detector, options)
        self.calls.append("expose")
        started = time.time()
        self.meanwhile()
        if self.block.is_set():
            self.aborted.clear()
            self.exposing.set()
            assert self.aborted.wait(PATIENCE), "this exposure was not aborted"
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
    driver: Driver,
    spool: Path,
    *,
    port: int = 0,
    host: str = "127.0.0.1",
    spool_limit: int | None = None,
):
    """Run a real acquisition server in a thread; yield its address."""
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
    client = Client(uri, token=token)
    try:
        yield client
    finally:
        client.close()


@contextlib.asynccontextmanager
async def shared_client(uri: str) -> AsyncIterator[InstrumentClient]:
    """The client that devices use, closed at the end."""
    try:
        yield client_for(uri)
    finally:
        close_all()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
