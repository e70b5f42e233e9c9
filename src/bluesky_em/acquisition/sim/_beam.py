"""The one electron beam that both simulated instruments share."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import Pyro5.api

from ..client import Client, ServerAddress

CALL_TIMEOUT = 2.0  # s
RETRY_INTERVAL = 5.0  # s without another attempt, so that few exposures are delayed


@dataclass(frozen=True, kw_only=True)
class BeamState:
    """The state of the column at one moment, as far as detectors depend on it."""

    x: float = 0.5
    """Beam position as a fraction of the scan, 0 left, 1 right."""
    y: float = 0.5
    """Beam position as a fraction of the scan, 0 top, 1 bottom."""
    field_of_view: float = 200e-9
    """Width of the scan in m."""
    scan_rotation: float = 0.0
    """rad."""
    blanked: bool = True
    valves_open: bool = True
    high_tension: float = 200e3
    """V."""
    current: float = 20e-12
    """Probe current in A."""
    defocus: float = 0.0
    """m."""
    camera_length: float = 0.135
    """m."""
    stage_x: float = 0.0
    stage_y: float = 0.0
    stage_z: float = 0.0
    """m."""
    stage_alpha: float = 0.0
    stage_beta: float = 0.0
    """rad."""

    @property
    def on(self) -> bool:
        """Return whether electrons reach the specimen."""
        return self.valves_open and not self.blanked

    def on_sample(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Return where on the specimen (m) the scan fractions x, y are."""
        u, v = (x - 0.5) * self.field_of_view, (y - 0.5) * self.field_of_view
        if self.scan_rotation == 0:
            return self.stage_x + u, self.stage_y + v  # keeps a grid's rows and columns apart
        cos, sin = math.cos(self.scan_rotation), math.sin(self.scan_rotation)
        return self.stage_x + u * cos - v * sin, self.stage_y + u * sin + v * cos


class HasSnapshot(Protocol):
    """A beam as simulated detectors use it: `Beam` in this process, `RemoteBeam` elsewhere."""

    def snapshot(self) -> dict[str, Any]:
        """Return the fields of `BeamState` as plain scalars."""
        ...


class Beam:
    """The beam, in the process that simulates the microscope.

    Register it with a Pyro5 daemon (``daemon.register(beam, "beam")``) and the simulated Gatan PC
    reads it through `RemoteBeam`; only `snapshot` can be called from outside.
    """

    def __init__(self, **start: Any) -> None:
        self._lock = threading.Lock()
        self._state = BeamState(**start)

    @property
    def now(self) -> BeamState:
        """The present state; the object never changes."""
        return self._state

    def change(self, **fields: Any) -> None:
        """Change some fields of the state, all at once."""
        with self._lock:
            self._state = replace(self._state, **fields)

    @Pyro5.api.expose
    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain scalars, ready for the wire."""
        return asdict(self.now)


class RemoteBeam:
    """The beam of another process, read over the network.

    A simulated Gatan PC must work alone, too: when no server answers at the address, `snapshot`
    returns the last known state, or, if there is none, an unblanked beam in the middle of the scan,
    and asks again only after `RETRY_INTERVAL` seconds. `refresh` raises instead.

    Raises:
        ValueError: `uri` is not an address.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        ServerAddress.parse(uri)
        self._clients = threading.local()
        self._last: dict[str, Any] = asdict(BeamState(blanked=False))
        self._retry_at = 0.0  # time.monotonic()

    def snapshot(self) -> dict[str, Any]:
        """Return the present state, or the last known one if the other side does not answer."""
        if time.monotonic() >= self._retry_at:
            try:
                return dict(self.refresh())
            except ConnectionError:
                self._retry_at = time.monotonic() + RETRY_INTERVAL
        return dict(self._last)

    def refresh(self) -> dict[str, Any]:
        """Return the present state; raise ConnectionError if the other side does not answer."""
        try:
            self._last = self._client().call("snapshot", timeout=CALL_TIMEOUT)
        except ConnectionError as exc:
            raise ConnectionError(
                f"The simulated beam at {self.uri} does not answer: {exc}. "
                "Is the simulated AutoScript server running on this computer?"
            ) from exc
        return self._last

    def close(self) -> None:
        """Close this thread's connection; the next call opens a new one."""
        client = self._clients.__dict__.pop("client", None)
        if client is not None:
            client.close()

    def _client(self) -> Client:
        # A client belongs to the thread that created it.
        if not hasattr(self._clients, "client"):
            self._clients.client = Client(self.uri)
        return self._clients.client
