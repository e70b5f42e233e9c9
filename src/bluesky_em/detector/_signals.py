"""Signals of an acquisition server's settings, read from the hardware at each read."""

from __future__ import annotations

import asyncio
import time
from typing import Any, TypeVar

import numpy as np
from bluesky.protocols import Reading
from event_model import DataKey
from ophyd_async.core import (
    AsyncStatus,
    Callback,
    NotConnectedError,
    SignalBackend,
    SignalDatatypeT,
    SignalMetadata,
    SignalR,
    SignalRW,
    make_datakey,
)

from bluesky_em.acquisition.client import client_for
from bluesky_em.errors import ServerUnreachable

S = TypeVar("S", bound=SignalR)


class ServerSignal(SignalBackend[SignalDatatypeT]):
    """One setting of an instrument, by its name at the acquisition server.

    Args:
        datatype: bool, int, float or str.
        uri: the server's address, e.g. `PYRO:eels_server@gatan-pc:9091`.
        setting: the driver's name for it, e.g. `energy_offset`.
        metadata: `units`, `precision`.
    """

    def __init__(self, datatype: type[SignalDatatypeT], uri: str, setting: str, **metadata: Any):
        self._server = client_for(uri)
        self._setting = setting
        self._metadata = SignalMetadata(**metadata)
        self._convert: Any = datatype
        self._setpoint: Any = None
        self._callback: Callback[Reading[SignalDatatypeT]] | None = None
        self._first: asyncio.Task | None = None
        super().__init__(datatype)

    def source(self, name: str, read: bool) -> str:
        """Return the server's address and the setting."""
        return f"{self._server.uri}#{self._setting}"

    async def connect(self, timeout: float) -> None:
        """Read the setting once; raises NotConnectedError with the server's address."""
        try:
            self._setpoint = await self._server.get(self._setting, timeout=timeout)
        except ServerUnreachable as exc:
            raise NotConnectedError(str(exc)) from exc

    async def put(self, value: SignalDatatypeT | None) -> None:
        """Set it and wait until the instrument confirms; observers receive what it reads back."""
        setpoint = self._setpoint if value is None else self._plain(value)
        readback = await self._server.set(self._setting, setpoint)
        self._setpoint = setpoint
        if self._callback:
            self._callback(self._reading(readback))

    def _plain(self, value: Any) -> Any:
        """Convert a value to the plain type that can be sent, e.g. np.float64 to float.

        Raises:
            ValueError: it is of another kind.
        """
        kinds = {bool: (bool, np.bool_), str: (str,)}
        if not isinstance(value, kinds.get(self._convert, object)):  # bool("False") would be True
            raise ValueError(f"{self._setting} is {value!r}; give a {self._convert.__name__}")
        try:
            return self._convert(value)
        except (TypeError, ValueError, OverflowError) as exc:
            raise ValueError(
                f"{self._setting} is {value!r}; give a {self._convert.__name__} ({exc})"
            ) from None

    async def get_reading(self) -> Reading[SignalDatatypeT]:
        """Read the hardware."""
        return self._reading(await self._server.get(self._setting))

    async def get_value(self) -> SignalDatatypeT:
        """Read the hardware."""
        return self._convert(await self._server.get(self._setting))

    async def get_setpoint(self) -> SignalDatatypeT:
        """Return the value that was last requested."""
        return self._setpoint

    async def get_datakey(self, source: str) -> DataKey:
        """Describe the value: dtype, units."""
        assert self.datatype is not None
        return make_datakey(self.datatype, await self.get_value(), source, self._metadata)

    def set_callback(self, callback: Callback[Reading[SignalDatatypeT]] | None) -> None:
        """Call `callback` with the value now, and with each value set through this signal."""
        if callback and self._callback:
            raise RuntimeError("Cannot set a callback when one is already set")
        self._callback = callback
        if callback:
            self._first = asyncio.create_task(self._report_first())

    async def _report_first(self) -> None:
        reading = await self.get_reading()
        if self._callback:
            self._callback(reading)

    def _reading(self, value: Any) -> Reading[SignalDatatypeT]:
        return Reading(value=self._convert(value), timestamp=time.time(), alarm_severity=0)


def server_signal_rw(
    datatype: type[SignalDatatypeT], uri: str, setting: str, **metadata: Any
) -> SignalRW[SignalDatatypeT]:
    """Create a signal that reads and sets a setting of a server."""
    return _uncached(SignalRW(ServerSignal(datatype, uri, setting, **metadata)))


def server_signal_r(
    datatype: type[SignalDatatypeT], uri: str, setting: str, **metadata: Any
) -> SignalR[SignalDatatypeT]:
    """Create a signal that reads a setting of a server."""
    return _uncached(SignalR(ServerSignal(datatype, uri, setting, **metadata)))


def _uncached(signal: S) -> S:
    """Disable caching on stage: servers do not push changes made at the instrument.

    On the instance, since ophyd-async stores and applies settings of exactly `SignalRW`, not of
    its subclasses.
    """
    for verb in ("stage", "unstage"):
        object.__setattr__(signal, verb, _do_nothing)
    return signal


@AsyncStatus.wrap
async def _do_nothing() -> None:
    """Stage nothing."""
