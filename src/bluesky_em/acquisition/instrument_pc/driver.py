"""The contract between an acquisition server and an instrument (Python 3.7 syntax).

To connect an instrument of another vendor, derive from `Driver` and hand it to `server.serve`:
`tests/unit/acquisition/instrument_pc/test_driver_contract.py` checks what is promised here.
"""

from __future__ import annotations

import abc
from typing import Any, Dict, Mapping, Optional, Tuple

import numpy as np

from .exposure import Exposure, Rows


class Driver(abc.ABC):
    """One instrument, with its settings and its detectors.

    Threads: the server calls from several threads. It runs one `expose` or `fly` at a time, but
    settings are read and changed meanwhile: a driver whose vendor allows one call at a time holds
    a lock of its own. `abort` and `park` must work while another call runs.

    Values: settings, options and metadata are plain Python (bool, int, float, str, and lists and
    dictionaries of these), since they travel as msgpack.

    Errors: ValueError means that the request is wrong; the message names the value and what is
    allowed, and nothing has moved. RuntimeError means that the instrument refuses or fails; the
    message says what the user can do. No other exceptions.
    """

    FIXED_IN_FLY_SCAN: Tuple[str, ...] = ()
    """Settings that all frames of a fly scan share; they cannot be changed during one."""

    @abc.abstractmethod
    def identity(self) -> Dict[str, Any]:
        """Describe the instrument.

        Returns:
            `vendor` and `name` (text), `simulated` (bool), and whatever else identifies it.
        """

    @abc.abstractmethod
    def settings(self) -> Dict[str, Dict[str, Any]]:
        """Describe every setting.

        Returns:
            By name: `units` (text; empty for none), `dtype` ("float", "str" or "bool"), `writable`
            (bool), `limits` ([low, high], both included, or None) and `choices` (list, or None).
        """

    @abc.abstractmethod
    def get(self, name: str) -> Any:
        """Read a setting from the hardware, in its dtype and units; NaN if it cannot be known.

        Raises:
            ValueError: there is no such setting.
            RuntimeError: the instrument does not answer.
        """

    @abc.abstractmethod
    def set(self, name: str, value: Any) -> Any:
        """Change a setting, wait until the hardware has arrived, and return what `get` returns.

        Raises:
            ValueError: there is no such setting, it is not writable, or the value is not allowed.
            RuntimeError: the instrument refuses, or reads back another value.
        """

    @abc.abstractmethod
    def layout(self, detector: str, options: Mapping[str, Any]) -> Tuple[Tuple[int, ...], str]:
        """Return the shape and dtype of the frame that `expose` would take; nothing is exposed.

        It is called before each exposure, so it must be fast. The dtype is little-endian and
        written as NumPy does, e.g. `((2048,), "<f4")`.

        Raises:
            ValueError: there is no such detector or option, or its value is not allowed.
        """

    @abc.abstractmethod
    def expose(self, detector: str, options: Mapping[str, Any]) -> Exposure:
        """Take one frame; return when its exposure has ended.

        The beam, where the driver controls it, is on only during the exposure, unless it was on
        before. Every option has a default.

        Returns:
            See `Exposure`. The array has the shape and dtype of `layout` and is no view of memory
            that the vendor's software will use again; there is one axis for each dimension.

        Raises:
            ValueError: as `layout`.
            RuntimeError: the instrument refuses or fails, or the exposure was aborted.
        """

    def check_fly_scan(
        self, detector: str, options: Mapping[str, Any], scan: Optional[Mapping[str, Any]]
    ) -> None:
        """Check that a detector can take part in a fly scan; nothing moves.

        Args:
            detector: its name.
            options: as for `expose`.
            scan: of a map, else None; see `fly`.

        Raises:
            ValueError: it cannot. This default refuses all maps.
        """
        self.layout(detector, options)
        if scan is not None:
            raise ValueError("{} cannot take a map on this instrument".format(detector))

    def fly(
        self,
        orders: Mapping[str, Mapping[str, Any]],
        count: int,
        scan: Optional[Mapping[str, Any]] = None,
    ) -> Rows:
        """Take a number of frames as fast as the instrument can.

        This default calls `expose` again and again, for one detector.

        Args:
            orders: the options of each detector, by its name.
            count: frames to take of each; of a map, all its points or the first ones.
            scan: None takes all frames at one place. Otherwise `shape` (lines, points of a line),
                `region` (left, top, width, height in fractions of the whole scan) and `sync`, how
                the probe moves: "hardware" or "software".

        Yields:
            Rows: by detector, one `Exposure` of one frame or more, array shape (n, *frame), axes
            of one frame. When True is sent (`again = yield row`), the row was not kept and is
            taken again. In a map the metadata's `scan` holds the y and x axes. Rows of a map
            that may come in any order have its place in the whole array as `index` in their
            metadata, e.g. [line, 0, 0].
            Closing the generator early leaves the instrument as at the regular end.

        Raises:
            ValueError: these detectors cannot take frames together.
            RuntimeError: as `expose`.
        """
        if len(orders) > 1:
            raise ValueError(
                "{} cannot be exposed together: let each fly alone, or take a map".format(
                    " and ".join(sorted(orders))
                )
            )
        return self._expose_repeatedly(*next(iter(orders.items())), count)

    def _expose_repeatedly(self, detector: str, options: Mapping[str, Any], count: int) -> Rows:
        taken = 0
        while taken < count:
            exposure = self.expose(detector, options)
            again = yield {detector: exposure._replace(array=exposure.array[np.newaxis])}
            taken += not again

    @abc.abstractmethod
    def abort(self) -> None:
        """End a running exposure as soon as the vendor allows; return at once, from any thread.

        `expose` then raises RuntimeError, or returns the frame if it can only be completed. While
        nothing is exposed, it does nothing; the next exposure is not affected.
        """

    @abc.abstractmethod
    def park(self) -> None:
        """Leave the instrument safe at the end of serving, e.g. with the beam blanked.

        It may be called twice, and while another call does not return; it waits for that call for
        a few seconds at most. It never raises; a failure is logged.
        """
