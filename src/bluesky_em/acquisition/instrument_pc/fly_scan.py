"""A flight: many frames at the instrument's own pace, into the spool block by block.

Python 3.7 syntax: this runs on the instrument PC.

Frames come faster than calls: so nobody asks for one. Several detectors may fly together, each
armed on its own; the flight begins when all that were armed have been kicked off. What a flight
has captured is in the spool, in *blocks* of consecutive frames, each an ordinary entry of the
spool under the reference of its first frame. Where each frame, or each line of a map, is an update
of its own, an order says so (`entry`), and nothing is put together.
"""

import threading
import time
from typing import Any, Dict, NamedTuple, Optional

import numpy as np

from .exposure import Exposure
from .faults import step

BLOCK_SECONDS = 0.1  # of frames that share a block: what a killed server can lose
BLOCK_BYTES = 4 << 20
LOOK = 0.05  # seconds between two looks for room in the spool, or for the end of a pause
BUSY = 30.0  # seconds to wait for an exposure that is under way
SILENCE = 60.0  # seconds without a question for progress, after which nobody wants the flight


class FlyOrder(NamedTuple):
    """What one detector is to do in a flight."""

    base: str
    """Its references are ``<base>/<number>``."""
    first: int
    """Number of the first frame."""
    frames: int
    """Frames to take."""
    duration: float
    """Seconds that a frame should take."""
    options: Dict[str, Any]
    """As for `expose`."""
    scan: Optional[Dict[str, Any]]
    """``{"shape": [lines, points], "region": [left, top, width, height], "sync": "hardware"}``
    moves the probe from frame to frame; None leaves it where it is."""
    entry: str = "block"
    """What an entry of the spool is: ``"block"``, as many frames as is good; ``"frame"``; or
    ``"line"``, a line of the map as one frame, shape (points, *frame). `frames` and numbers
    count lines then, and the line's place is its metadata's ``index``."""


class FlyScan:
    """One pass of the instrument.

    Args:
        driver: its `fly` is called once, with all orders; it gives rows, by detector, and takes
            one again when it is told to (`again = yield row`).
        spool: where the blocks go.
        instrument: the lock of whoever exposes.
    """

    def __init__(self, driver, spool, instrument):
        self._driver = driver
        self._spool = spool
        self._instrument = instrument
        self._orders: Dict[str, FlyOrder] = {}
        self._kicked_off = set()
        self._channels: Dict[str, _Channel] = {}
        self._aborted = threading.Event()
        self._going = threading.Event()
        self._going.set()
        self._thread: Optional[threading.Thread] = None
        self._lock = threading.Lock()
        self._error = ""
        self._waiting = ""
        self._asked = time.monotonic()

    @property
    def ended(self):
        """Whether it is over, or will never begin."""
        return self._aborted.is_set() if self._thread is None else not self._thread.is_alive()

    def arm(self, detector, order):
        """Take a detector on board.

        Raises:
            ValueError: its order cannot be carried out, or not together with the others'.
            RuntimeError: the flight has begun.
        """
        if self._thread is not None:
            raise RuntimeError("a flight is under way; end it (`abort`) before arming another")
        if order.frames < 1 or order.first < 0:
            raise ValueError(
                "a flight takes at least one frame, from number 0 on; not {} from {}".format(
                    order.frames, order.first
                )
            )
        for name, other in self._orders.items():
            if name != detector and _pace(other) != _pace(order):
                raise ValueError(
                    "{} was armed for {}; {} cannot fly with it for {}: prepare both alike".format(
                        name, _pace(other), detector, _pace(order)
                    )
                )
        _check_entry(order)
        self._driver.check_fly_scan(detector, order.options, order.scan)
        self._spool.check_size(self._frame_size(detector, order))
        self._orders[detector] = order

    def kickoff(self, detector):
        """Have a detector ready to go; the last one of those armed begins the flight.

        Raises:
            RuntimeError: it was not armed, or has flown already.
        """
        with self._lock:
            if detector not in self._orders or self._thread is not None:
                raise RuntimeError(
                    "{!r} is not armed: prepare it before each kickoff".format(detector)
                )
            self._kicked_off.add(detector)
            if self._kicked_off < set(self._orders):
                return
            block = min(self._block_of(name, order) for name, order in self._orders.items())
            for name, order in self._orders.items():
                self._channels[name] = _Channel(order, block, self._put)
            self._asked = time.monotonic()
            self._thread = threading.Thread(target=self._run, name="flight", daemon=True)
            self._thread.start()

    def progress(self, detector):
        """Tell how far a detector has got.

        Returns:
            `captured` (frames in the spool), `block` (frames per block), `done`, `error`,
            `waiting` (what it waits for; empty when it does not), `header` of its first block.
        """
        self._asked = time.monotonic()
        channel = self._channels.get(detector)
        done = self.ended  # asked first: what was captured before the end must be counted
        return {
            "captured": channel.captured if channel else 0,
            "block": channel.block if channel else 0,
            "done": done,
            "error": self._error,
            "waiting": self._waiting,
            "header": channel.header if channel else None,
        }

    def hold(self):
        """Pause after the row at hand, which is taken again afterwards."""
        self._going.clear()

    def go_on(self):
        """Go on after a pause."""
        self._going.set()

    def abort(self, timeout=None):
        """End after the row at hand; what was taken is kept, but for a row that was paused."""
        self._aborted.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self):
        if not self._instrument.acquire(timeout=BUSY):
            self._error = "the instrument was still busy with an exposure after {} s".format(BUSY)
            return
        try:
            order = next(iter(self._orders.values()))
            options = {name: each.options for name, each in self._orders.items()}
            count = order.frames * _points(order)
            rows = self._driver.fly(options, count, order.scan)
            try:
                self._take(rows)
            finally:
                for channel in self._channels.values():
                    channel.finish()
                rows.close()
        except Exception as exc:  # whatever the vendor raised: for the plan to know
            self._error = "{}: {}".format(type(exc).__name__, exc)
        finally:
            self._instrument.release()

    def _take(self, rows):
        """Take row after row; one during which somebody paused is taken again.

        Who pauses blanks the beam at once, so that row may be dark.
        """
        row = next(rows, None)
        while row is not None:
            step("server: exposed")
            paused = not self._going.is_set()
            if not paused:
                for name, exposure in row.items():
                    self._channels[name].add(exposure)
            if self._must_end():
                return
            try:
                row = rows.send(paused)
            except StopIteration:
                return

    def _must_end(self):
        while not self._going.wait(LOOK) and self._is_wanted():
            pass
        return not self._is_wanted()

    def _is_wanted(self):
        """Tell whether to go on: a plan asks for progress all the while, also while it pauses."""
        if time.monotonic() - self._asked > SILENCE and not self._aborted.is_set():
            self._error = "nobody asked for its progress for {:.0f} s".format(SILENCE)
            self._aborted.set()
        return not self._aborted.is_set()

    def _put(self, reference, exposure):
        """Wait for room, and keep a block; None if there never was any."""
        while True:
            try:
                self._spool.check_room(exposure.array.nbytes)
                header = self._spool.put(reference, exposure)
            except OSError as exc:
                self._waiting = str(exc.strerror)
                time.sleep(LOOK)
                if not self._is_wanted():
                    self._error = "{} frames from {} on were taken and not kept: {}".format(
                        len(exposure.array), reference, exc.strerror
                    )
                    return None
                continue
            self._waiting = ""
            step("server: spooled")
            return header

    def _frame_size(self, detector, order):
        shape, dtype = self._driver.layout(detector, order.options)
        return _points(order) * int(np.prod(shape)) * np.dtype(dtype).itemsize

    def _block_of(self, detector, order):
        if order.entry != "block":
            return 1
        size = max(1, self._frame_size(detector, order))
        most = min(BLOCK_BYTES, self._spool.limit or BLOCK_BYTES) // size
        wanted = BLOCK_SECONDS / order.duration if order.duration > 0 else most
        return int(max(1, min(wanted, most, order.frames)))


def _pace(order):
    """Tell what detectors that fly together must have in common."""
    return "{} frames, scan {}, an entry for each {}".format(order.frames, order.scan, order.entry)


def _points(order):
    """Give how many points of the map each frame of the order is."""
    return order.scan["shape"][1] if order.entry == "line" else 1


def _check_entry(order):
    if order.entry not in ("block", "frame", "line"):
        raise ValueError(
            "there is no entry of a {!r}; there are: block, frame, line".format(order.entry)
        )
    if order.entry == "line" and (order.scan is None or order.scan["sync"] != "hardware"):
        raise ValueError(
            "only a map whose scan is synchronised by hardware comes line by line; this is for "
            "scan {}".format(order.scan)
        )


def _as_frame(line):
    """Make one frame of a line of a map, whose points become the frame's first axis."""
    array, x = line.array, line.metadata["scan"][1]
    x = dict(x, size=len(array))
    return line._replace(array=array[np.newaxis], axes=[x] + line.axes)


class _Channel:
    """One detector's frames on their way into blocks."""

    def __init__(self, order, block, put):
        self.captured = 0
        self.block = block
        self.header = None
        self._order = order
        self._put = put
        self._rows = []
        self._frames = 0
        self._full = False
        self._axes = None

    def add(self, row):
        """Take a row, an `Exposure` whose array has shape (n, *frame)."""
        if self._order.entry == "line":
            row = _as_frame(row)
        if self._axes not in (None, row.axes):
            raise RuntimeError(
                "the axes have changed from {} to {}: one flight has one calibration".format(
                    self._axes, row.axes
                )
            )
        self._axes = row.axes
        self._rows.append(row)
        self._frames += len(row.array)
        while self._frames >= self.block:
            self._keep(self.block)

    def finish(self):
        """Keep what is left as a last, shorter block."""
        if self._frames:
            self._keep(self._frames)

    def _keep(self, count):
        arrays = [row.array for row in self._rows]
        frames = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        first, last = self._rows[0], self._rows[-1]
        rest = frames[count:]
        self._rows = [last._replace(array=rest)] if len(rest) else []
        self._frames = len(rest)
        if self._full:
            return  # frames after a gap would get the wrong numbers
        block = Exposure(frames[:count], first.axes, first.metadata, first.started, last.ended)
        number = self._order.first + self.captured
        header = self._put("{}/{}".format(self._order.base, number), block)
        if header is None:
            self._full = True
            return
        if self.header is None:
            self.header = header
        self.captured += count
