"""The acquisition server: an instrument PC's driver and spool, behind Pyro5.

Python 3.7 syntax, and nothing but Pyro5, msgpack and NumPy: it runs inside DigitalMicrograph.
It listens on loopback; on any other interface it demands a token, since any client can move the
stage and turn on the beam. `protocol` lists its methods.
"""

import errno
import ipaddress
import threading
import time

import numpy as np
import Pyro5.api

from . import credentials, request_limits
from .calibration import checked
from .connections import Daemon
from .faults import step
from .fly_scan import FlyOrder, FlyScan
from .protocol import MAX_FETCH, PROTOCOL
from .spool import Spool
from .summary import summarise

EXPOSE_TIMEOUT = 30.0  # seconds to wait for another exposure
SHUTDOWN_TIMEOUT = 5.0  # seconds that a fly scan may take to end when the server ends


@Pyro5.api.expose
class AcquisitionServer:
    """The methods that devices and the writer call on an instrument PC.

    Args:
        driver: a `Driver` of the instrument.
        spool: a `Spool` for waiting frames.
    """

    def __init__(self, driver, spool):
        self._driver = driver
        self._spool = spool
        self._exposing = threading.Lock()
        self._fly_scan = None
        self._unwritten = None
        self._closed = False

    def identity(self):
        """Describe the instrument: vendor, name, version."""
        return self._driver.identity()

    def ping(self):
        """Answer, to show that the connection works."""

    def settings(self):
        """Describe every setting: units, dtype, writable, limits, choices."""
        return self._driver.settings()

    def get(self, name):
        """Read one setting from the hardware, or one of its limits (`stage_x.low`, `.high`)."""
        request_limits.check_name("setting", name)
        setting, _, bound = name.partition(".")
        if not bound:
            return self._driver.get(name)
        limits = self._driver.settings().get(setting, {}).get("limits")
        if limits is None or bound not in ("low", "high"):
            raise ValueError("{!r} is not a limit: give <setting>.low or .high".format(name))
        return limits[bound == "high"]

    def set(self, name, value):
        """Change one setting and return what the hardware reads back.

        Raises:
            RuntimeError: a fly scan is running whose frames share this setting.
        """
        request_limits.check_name("setting", name)
        request_limits.check_value(name, value)
        self._refuse_if_closed()
        running = self._fly_scan is not None and not self._fly_scan.ended
        if running and name in self._driver.FIXED_IN_FLY_SCAN:
            raise RuntimeError(
                "{} cannot change while a fly scan is running; end it, or wait for its end".format(
                    name
                )
            )
        return self._driver.set(name, value)

    def layout(self, detector, options):
        """Return `[shape, dtype]` of the frame that `expose` would take."""
        request_limits.check_exposure(detector, options)
        shape, dtype = self._driver.layout(detector, options)
        return [list(shape), dtype]

    def expose(self, reference, detector, options, thumbnail=False, again=False):
        """Take one frame and return its header once it is on this PC's disk.

        `again` repeats an exposure of this reference that was interrupted: its frame is replaced.

        Returns:
            The header, as `header` returns it, with a `summary`: see `summarise`.

        Raises:
            RuntimeError: another exposure is running, or the instrument refuses.
            ValueError: an option is unknown or outside its limits, or the reference is taken.
            OSError: with errno ENOSPC, nothing was exposed: the spool has no room; try again.
                With errno EIO, the exposed frame could not be written; `keep` tries again.
        """
        request_limits.check_reference(reference)
        request_limits.check_exposure(detector, options)
        self._refuse_if_closed()
        if not self._exposing.acquire(timeout=EXPOSE_TIMEOUT):
            raise RuntimeError(
                "the instrument was still busy with another exposure after {:.0f} s; "
                "abort that one first".format(EXPOSE_TIMEOUT)
            )
        try:
            if not again:
                self._spool.check_new([reference])
            self._spool.check_room(self._size(detector, options))
            exposure = checked(self._driver.expose(detector, options))
            step("server: exposed")
            return self._put(reference, exposure, thumbnail)
        finally:
            self._exposing.release()

    def preflight(self, detector, options):
        """Return the bytes of the frame that `expose` would take.

        Raises:
            ValueError: it would never fit into the spool.
        """
        request_limits.check_exposure(detector, options)
        size = self._size(detector, options)
        self._spool.check_size(size)
        return size

    def _size(self, detector, options):
        shape, dtype = self._driver.layout(detector, options)
        return int(np.prod(shape)) * np.dtype(dtype).itemsize

    def keep(self, reference):
        """Try again to write the last frame, if it could not be written when it was exposed.

        Returns:
            As `expose`.

        Raises:
            LookupError: this frame does not wait to be written.
            OSError: (EIO) it still cannot be written.
        """
        request_limits.check_reference(reference)
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
        """Prepare a detector for the next fly scan; `order` has the fields of `FlyOrder`.

        Raises:
            ValueError: the order cannot be carried out.
            RuntimeError: a fly scan is running.
        """
        request_limits.check_name("detector", detector)
        request_limits.check_order(order)
        self._refuse_if_closed()
        if self._fly_scan is None or self._fly_scan.ended:
            self._fly_scan = FlyScan(self._driver, self._spool, self._exposing)
        self._fly_scan.arm(detector, FlyOrder(**order))

    def kickoff(self, detector):
        """Start the fly scan, once all armed detectors have been kicked off."""
        request_limits.check_name("detector", detector)
        self._refuse_if_closed()
        self._armed_fly_scan().kickoff(detector)

    def progress(self, detector):
        """Return the progress of a detector in its fly scan; see `FlyScan.progress`."""
        request_limits.check_name("detector", detector)
        return self._armed_fly_scan().progress(detector)

    def hold(self):
        """Pause the fly scan, if there is one, after the current row."""
        if self._fly_scan is not None:
            self._fly_scan.pause()

    def resume(self):
        """Resume a fly scan that was paused."""
        if self._fly_scan is not None:
            self._fly_scan.resume()

    def _armed_fly_scan(self):
        if self._fly_scan is None:
            raise RuntimeError("this acquisition server has no fly scan: was it restarted?")
        return self._fly_scan

    def abort(self):
        """End a running exposure or fly scan as soon as the vendor allows."""
        self._driver.abort()
        if self._fly_scan is not None:
            self._fly_scan.abort(timeout=0)

    def fetch(self, reference, start, size):
        """Return bytes of a spooled frame, at most `MAX_FETCH` of them."""
        request_limits.check_fetch(reference, start, size)
        return self._spool.read(reference, start, min(size, MAX_FETCH))

    def release(self, references):
        """Remove frames from the spool that are stored elsewhere."""
        request_limits.check_references(references)
        self._spool.release(references)

    def header(self, reference):
        """Describe a spooled frame or block: shape, dtype, nbytes, checksum, axes, ended ..."""
        request_limits.check_reference(reference)
        return self._spool.header(reference)

    def references(self):
        """Return the references of all frames in the spool."""
        return self._spool.references()

    def _refuse_if_closed(self):
        if self._closed:
            raise RuntimeError("this acquisition server is shutting down, the instrument is parked")

    def status(self):
        """Return whether an exposure runs, how full the spool is, and the clock's time (s)."""
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
        spool_limit: bytes that may wait; None: until its disk is (nearly) full.

    Raises:
        PermissionError: `host` is not loopback and BLUESKY_EM_TOKEN is not set.
        ValueError: token, certificate or key cannot be used.
        OSError: the server cannot listen there.
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
        server._closed = True  # noqa: SLF001 (clients can call what is public)
        server.abort()
        if server._fly_scan is not None:  # noqa: SLF001
            server._fly_scan.abort(timeout=SHUTDOWN_TIMEOUT)  # noqa: SLF001 (its frames must be kept)
        driver.park()
        daemon.close()


def _advice(exc):
    if exc.errno in (errno.EADDRINUSE, errno.EACCES):
        return "does another server run there? Give another --port, and change the devices file"
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
