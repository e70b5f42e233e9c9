"""The acquisition server: an instrument PC's driver and spool, behind Pyro5.

Python 3.7 syntax, and nothing but Pyro5, msgpack and NumPy: it runs inside DigitalMicrograph.
It listens on loopback; on any other interface it demands a token, since whoever reaches it moves
the stage and turns on the beam.
"""

import errno
import ipaddress
import threading
import time

import numpy as np
import Pyro5.api

from . import credentials
from .connections import Daemon
from .faults import step
from .fly_scan import FlyOrder, FlyScan
from .protocol import MAX_FETCH, PROTOCOL
from .spool import Spool
from .summary import summarise

LANDING = 5.0  # seconds that a flight may take to end when the server does


@Pyro5.api.expose
class AcquisitionServer:
    """What devices and the writer may ask of an instrument PC.

    Args:
        driver: drives the vendor's module, e.g. `gatan._driver.SpectrometerDriver`.
        spool: where frames wait.
    """

    def __init__(self, driver, spool):
        self._driver = driver
        self._spool = spool
        self._exposing = threading.Lock()
        self._flight = None
        self._unwritten = None
        self._closed = False

    def identity(self):
        """Say which instrument answers: vendor, name, version."""
        return self._driver.identity()

    def ping(self):
        """Answer, to show that the connection stands."""

    def settings(self):
        """Describe every setting: units, dtype, writable, limits, choices."""
        return self._driver.settings()

    def get(self, name):
        """Read one setting from the hardware, or one of its limits (`stage_x.low`, `.high`)."""
        setting, _, bound = name.partition(".")
        if not bound:
            return self._driver.get(name)
        limits = self._driver.settings().get(setting, {}).get("limits")
        if limits is None or bound not in ("low", "high"):
            raise ValueError("{!r} is no limit: give <setting>.low or .high".format(name))
        return limits[bound == "high"]

    def set(self, name, value):
        """Change one setting and return what the hardware reads back.

        Raises:
            RuntimeError: a flight is under way that would not be what it says any more.
        """
        self._refuse_if_closed()
        flying = self._flight is not None and not self._flight.ended
        if flying and name in self._driver.FIXED_IN_FLY_SCAN:
            raise RuntimeError(
                "{} cannot change while a flight is under way; end it, or wait for its end".format(
                    name
                )
            )
        return self._driver.set(name, value)

    def layout(self, detector, options):
        """Tell the `[shape, dtype]` of the frame that `expose` would give."""
        shape, dtype = self._driver.layout(detector, options)
        return [list(shape), dtype]

    def expose(self, reference, detector, options, thumbnail=False):
        """Take one frame and return its header once it is on this PC's disk.

        Returns:
            The header, as `header` gives it, and its `summary`: see `summarise`.

        Raises:
            RuntimeError: another exposure is running, or the instrument refuses.
            ValueError: an option outside its limits.
            OSError: with errno ENOSPC, nothing was exposed: the spool has no room; try again.
                With errno EIO, the exposed frame could not be written; `keep` tries again.
        """
        self._refuse_if_closed()
        if not self._exposing.acquire(timeout=30.0):
            raise RuntimeError(
                "the instrument was still busy with another exposure after 30 s; "
                "abort that one first"
            )
        try:
            self._spool.check_room(self._size(detector, options))
            exposure = self._driver.expose(detector, options)
            step("server: exposed")
            return self._put(reference, exposure, thumbnail)
        finally:
            self._exposing.release()

    def preflight(self, detector, options):
        """Tell the bytes of the frame that `expose` would give.

        Raises:
            ValueError: it would never fit into the spool.
        """
        size = self._size(detector, options)
        self._spool.check_size(size)
        return size

    def _size(self, detector, options):
        shape, dtype = self._driver.layout(detector, options)
        return int(np.prod(shape)) * np.dtype(dtype).itemsize

    def keep(self, reference):
        """Try again to write the last frame, which could not be written when it was exposed.

        Returns:
            As `expose`.

        Raises:
            LookupError: no such frame waits to be written.
            OSError: (EIO) it still cannot be written.
        """
        with self._exposing:
            if self._unwritten is None or self._unwritten[0] != reference:
                raise LookupError("frame {!r} does not wait to be written".format(reference))
            return self._put(*self._unwritten)

    def _put(self, reference, exposure, thumbnail):
        try:
            header = self._spool.put(reference, exposure)
        except OSError as exc:
            self._unwritten = reference, exposure, thumbnail
            raise OSError(
                errno.EIO,
                "frame {!r} cannot be written to the spool {} ({}) and waits in memory".format(
                    reference, self._spool.folder, exc.strerror
                ),
            ) from exc
        self._unwritten = None
        step("server: spooled")
        return dict(header, summary=summarise(exposure, thumbnail))

    def arm(self, detector, order):
        """Take a detector on board of the next flight; `order` as for `flight.Order`.

        Raises:
            ValueError: the order cannot be carried out.
            RuntimeError: a flight is under way.
        """
        self._refuse_if_closed()
        if self._flight is None or self._flight.ended:
            self._flight = FlyScan(self._driver, self._spool, self._exposing)
        self._flight.arm(detector, FlyOrder(**order))

    def kickoff(self, detector):
        """Begin the flight, once all detectors that were armed have been kicked off."""
        self._refuse_if_closed()
        self._flying().kickoff(detector)

    def progress(self, detector):
        """Tell how far a detector has got in its flight; see `FlyScan.progress`."""
        return self._flying().progress(detector)

    def hold(self):
        """Pause the flight, if there is one, after the row at hand."""
        if self._flight is not None:
            self._flight.hold()

    def go_on(self):
        """Go on with a flight that was paused."""
        if self._flight is not None:
            self._flight.go_on()

    def _flying(self):
        if self._flight is None:
            raise RuntimeError("this acquisition server knows of no flight: was it started anew?")
        return self._flight

    def abort(self):
        """End a running exposure or flight as soon as the vendor allows."""
        self._driver.abort()
        if self._flight is not None:
            self._flight.abort(timeout=0)

    def fetch(self, reference, start, size):
        """Give bytes of a spooled frame, at most `MAX_FETCH` of them."""
        if start < 0 or size < 0:
            raise ValueError("cannot fetch {} bytes from byte {}".format(size, start))
        return self._spool.read(reference, start, min(size, MAX_FETCH))

    def release(self, references):
        """Let the spool forget frames that are safe elsewhere."""
        self._spool.release(references)

    def header(self, reference):
        """Describe a spooled frame or block: shape, dtype, nbytes, checksum, axes, ended ..."""
        return self._spool.header(reference)

    def references(self):
        """List the frames that wait here."""
        return self._spool.references()

    def _refuse_if_closed(self):
        if self._closed:
            raise RuntimeError("this acquisition server is shutting down, the instrument is parked")

    def status(self):
        """Tell whether an exposure runs, how full the spool is, and what this PC's clock says."""
        frames, size = self._spool.fill()
        return {
            "exposing": self._exposing.locked(),
            "frames": frames,
            "bytes": size,
            "capacity": self._spool.capacity(),
            "time": time.time(),
            "protocol": PROTOCOL,
        }


def serve(driver, name, host, port, spool, extra=None, started=None, spool_limit=None):
    """Serve until interrupted; then leave the instrument safe.

    Args:
        driver: as for `AcquisitionServer`.
        name: the object's Pyro name, e.g. `eels_server`.
        host: the interface to listen on.
        port: 0 picks a free one.
        spool: folder for waiting frames.
        extra: more objects to serve, by Pyro name.
        started: called with the server's address and the function that stops it.
        spool_limit: bytes that may wait; None: until that disk is (nearly) full.

    Raises:
        PermissionError: `host` is not loopback and BLUESKY_EM_TOKEN is not set.
        ValueError: token, certificate or key cannot be used.
        OSError: it is not possible to listen there.
    """
    token, tls = credentials.token(), credentials.server_tls()
    if not token and not _is_loopback(host):
        raise PermissionError(
            "refusing to serve {} on {} without a token: anyone on that network could move the "
            "instrument. Set BLUESKY_EM_TOKEN here and on the control PC, or listen on "
            "127.0.0.1".format(name, host)
        )
    server = AcquisitionServer(driver, Spool(spool, spool_limit))
    try:
        daemon = Daemon(host, port, token, tls)
    except OSError as exc:
        raise OSError(
            "cannot listen on {}:{} ({}): {}".format(host, port, exc.strerror, _advice(exc))
        ) from exc
    try:
        uri = daemon.register(server, name)
        for other, thing in (extra or {}).items():
            daemon.register(thing, other)
        if started:
            started(str(uri), daemon.shutdown)
        daemon.requestLoop()
    finally:
        server._closed = True  # noqa: SLF001 (what is public can be called from afar)
        server.abort()
        if server._flight is not None:  # noqa: SLF001
            server._flight.abort(timeout=LANDING)  # noqa: SLF001 (what it has taken is to be kept)
        driver.park()
        daemon.close()


def _advice(exc):
    if exc.errno in (errno.EADDRINUSE, errno.EACCES):
        return "does another server run there? Give another --port, and tell the devices file"
    return (
        "is that an address of this computer? --host 127.0.0.1 listens to this computer only, "
        "0.0.0.0 to all its networks"
    )


def _is_loopback(host):
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
