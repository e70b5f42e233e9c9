"""A fly scan: many frames at the instrument's own pace, stored in the spool block by block.

Python 3.7 syntax: this runs on the instrument PC.

Frames come faster than calls, so no call asks for a single one. Several detectors may take part,
each armed on its own; the fly scan starts when all armed detectors have been kicked off. Captured
frames are in the spool, in *blocks* of consecutive frames, each an ordinary entry of the spool
under the reference of its first frame. Where each frame, or each line of a map, is an update of
its own, the order says so (`entry`), and frames are not put together.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Dict, NamedTuple, Optional

import numpy as np

from .calibration import checked
from .exposure import Exposure
from .faults import step

BLOCK_DURATION = 0.1  # seconds of frames that share a block: a killed server can lose that much
BLOCK_BYTES = 4 << 20
POLL_INTERVAL = 0.05  # seconds between two checks for room in the spool, or for the end of a pause
INSTRUMENT_TIMEOUT = 30.0  # seconds to wait for an exposure that is running
PROGRESS_TIMEOUT = 60.0  # seconds without a call of `progress`, after which the fly scan is ended


class FlyOrder(NamedTuple):
    """The part of one detector in a fly scan."""

    base: str
    """Its references are ``<base>/<number>``."""
    first: int
    """Number of the first frame."""
    frames: int
    """Number of frames to take."""
    duration: float
    """Expected seconds for each frame."""
    options: Dict[str, Any]
    """As for `expose`."""
    scan: Optional[Dict[str, Any]]
    """``{"shape": [lines, points], "region": [left, top, width, height], "sync": "hardware"}``
    moves the probe from frame to frame; None leaves it where it is."""
    entry: str = "block"
    """The content of an entry of the spool: ``"block"``, several frames; ``"frame"``; or
    ``"line"``, a line of the map as one frame, shape (points, *frame). `frames` and numbers
    then count lines, and the line's place is ``index`` in its metadata."""


class FlyScan:
    """One fly scan of the instrument.

    Args:
        driver: see `Driver.fly`, which is called once, with all orders.
        spool: stores the blocks.
        instrument: lock that is held by each exposure and fly scan.
    """

    def __init__(self, driver, spool, instrument):
        self._driver = driver
        self._spool = spool
        self._instrument = instrument
        self._orders: Dict[str, FlyOrder] = {}
        self._kicked_off = set()
        self._channels: Dict[str, _Channel] = {}
        self._aborted = threading.Event()
        self._running = threading.Event()
        self._running.set()
        self._thread: Optional[threading.Thread] = None
        self._lock = threading.Lock()
        self._error = ""
        self._waiting = ""
        self._progress_asked = time.monotonic()

    @property
    def ended(self):
        """Whether it has ended, or will never start."""
        return self._aborted.is_set() if self._thread is None else not self._thread.is_alive()

    def arm(self, detector, order):
        """Add a detector to this fly scan.

        Raises:
            ValueError: its order cannot be carried out, or not together with the others.
            RuntimeError: the fly scan has started.
        """
        if self._thread is not None:
            raise RuntimeError("a fly scan is running; end it (`abort`) before arming another")
        if order.frames < 1 or order.first < 0:
            raise ValueError(
                "a fly scan takes at least one frame, from number 0 on; not {} from {}".format(
                    order.frames, order.first
                )
            )
        for name, other in self._orders.items():
            if name != detector and _pace(other) != _pace(order):
                raise ValueError(
                    "{} was armed for {}; {} cannot take part for {}: prepare both alike".format(
                        name, _pace(other), detector, _pace(order)
                    )
                )
        _check_entry(order)
        numbers = range(order.first, order.first + order.frames)
        self._spool.check_new_numbers(order.base, numbers)
        self._driver.check_fly_scan(detector, order.options, order.scan)
        self._spool.check_size(self._frame_size(detector, order))
        self._orders[detector] = order

    def kickoff(self, detector):
        """Mark a detector as ready; the last one of those armed starts the fly scan.

        Raises:
            RuntimeError: it was not armed, or the fly scan has started.
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
            self._progress_asked = time.monotonic()
            self._thread = threading.Thread(target=self._run, name="fly scan", daemon=True)
            self._thread.start()

    def progress(self, detector):
        """Return the progress of a detector.

        Returns:
            `captured` (frames stored in the spool), `block` (frames per block), `done` (bool),
            `error` (text; empty for none), `waiting` (reason why it waits; empty if it does not)
            and `header` of its first block, or None.
        """
        self._progress_asked = time.monotonic()
        channel = self._channels.get(detector)
        done = self.ended  # read first: all frames captured before the end must be counted
        return {
            "captured": channel.captured if channel else 0,
            "block": channel.block if channel else 0,
            "done": done,
            "error": self._error,
            "waiting": self._waiting,
            "header": channel.header if channel else None,
        }

    def pause(self):
        """Pause after the current row, which is taken again afterwards."""
        self._running.clear()

    def resume(self):
        """Resume after a pause."""
        self._running.set()

    def abort(self, timeout=None):
        """End after the current row; all rows are kept, except one during which it was paused."""
        self._aborted.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self):
        if not self._instrument.acquire(timeout=INSTRUMENT_TIMEOUT):
            self._error = "the instrument was still busy with an exposure after {} s".format(
                INSTRUMENT_TIMEOUT
            )
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
        except Exception as exc:  # any error of the vendor is reported to the plan
            self._error = "{}: {}".format(type(exc).__name__, exc)
        finally:
            self._instrument.release()

    def _take(self, rows):
        """Take row after row; one during which a pause began is taken again.

        The beam is blanked at once in a pause, so that row may be dark.
        """
        row = next(rows, None)
        while row is not None:
            step("server: exposed")
            paused = not self._running.is_set()
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
        while not self._running.wait(POLL_INTERVAL) and self._is_wanted():
            pass
        return not self._is_wanted()

    def _is_wanted(self):
        """Return whether to continue: a plan asks for progress all the time, also in a pause."""
        idle = time.monotonic() - self._progress_asked
        if idle > PROGRESS_TIMEOUT and not self._aborted.is_set():
            self._error = "no client asked for its progress for {:.0f} s".format(PROGRESS_TIMEOUT)
            self._aborted.set()
        return not self._aborted.is_set()

    def _put(self, reference, exposure):
        """Wait for room, then store a block; return its header, or None if there never was room."""
        while True:
            try:
                self._spool.check_room(exposure.array.nbytes)
                header = self._spool.put(reference, exposure)
            except OSError as exc:
                self._waiting = str(exc.strerror)
                time.sleep(POLL_INTERVAL)
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
        wanted = BLOCK_DURATION / order.duration if order.duration > 0 else most
        return int(max(1, min(wanted, most, order.frames)))


def _pace(order):
    """Return what all detectors of a fly scan must have in common."""
    return "{} frames, scan {}, an entry for each {}".format(order.frames, order.scan, order.entry)


def _points(order):
    """Return how many points of the map each frame of the order has."""
    return order.scan["shape"][1] if order.entry == "line" else 1


def _check_entry(order):
    if order.entry not in ("block", "frame", "line"):
        raise ValueError(
            "there is no entry {!r}; there are: block, frame, line".format(order.entry)
        )
    if order.entry == "line" and (order.scan is None or order.scan["sync"] != "hardware"):
        raise ValueError(
            "only a map whose scan is synchronised by hardware has entries for lines; this is "
            "for scan {}".format(order.scan)
        )


def _as_frame(line):
    """Return a line of a map as one frame; its points become the frame's first axis."""
    array, x = line.array, line.metadata["scan"][1]
    x = dict(x, size=len(array))
    return line._replace(array=array[np.newaxis], axes=[x] + line.axes)


class _Channel:
    """Collects the frames of one detector into blocks."""

    def __init__(self, order, block, put):
        self.captured = 0
        self.block = block
        self.header = None
        self._order = order
        self._put = put
        self._rows = []
        self._frames = 0
        self._has_gap = False
        self._axes = None

    def add(self, row):
        """Add a row, an `Exposure` whose array has shape (n, *frame)."""
        row = checked(row)
        if self._order.entry == "line":
            row = _as_frame(row)
        if self._axes not in (None, row.axes):
            raise RuntimeError(
                "the axes have changed from {} to {}: a fly scan has one calibration".format(
                    self._axes, row.axes
                )
            )
        self._axes = row.axes
        self._rows.append(row)
        self._frames += len(row.array)
        while self._frames >= self.block:
            self._store(self.block)

    def finish(self):
        """Store the remaining frames as a last, shorter block."""
        if self._frames:
            self._store(self._frames)

    def _store(self, count):
        arrays = [row.array for row in self._rows]
        frames = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        first, last = self._rows[0], self._rows[-1]
        rest = frames[count:]
        self._rows = [last._replace(array=rest)] if len(rest) else []
        self._frames = len(rest)
        if self._has_gap:
            return  # frames after a gap would get the wrong numbers
        block = Exposure(frames[:count], first.axes, first.metadata, first.started, last.ended)
        number = self._order.first + self.captured
        header = self._put("{}/{}".format(self._order.base, number), block)
        if header is None:
            self._has_gap = True
            return
        if self.header is None:
            self.header = header
        self.captured += count
