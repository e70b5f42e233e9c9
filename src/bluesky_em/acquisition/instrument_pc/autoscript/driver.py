"""The driver of a Thermo Fisher microscope, through AutoScript.

Python 3.7 syntax, NumPy and the standard library only: it runs in AutoScript's own interpreter. The
vendor module is an argument, so the same code runs on the look-alike in `acquisition.sim`. A call
to the microscope takes about 6 ms and blocks; so calls are few, and made by one thread at a time.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import threading
import time
from typing import Any, Dict, Iterator, Mapping, Optional, Tuple

from ..calibration import checked
from ..driver import Driver
from ..exposure import Exposure
from . import images
from .beam import Beam
from .settings import Settings

PARK_TIMEOUT = 5.0  # s to wait for a running call before blanking anyway

_log = logging.getLogger(__name__)


class MicroscopeDriver(Driver):
    """One microscope, connected when created.

    Args:
        autoscript_module: `autoscript_tem_microscope_client`, or its look-alike.
        host: where the AutoScript server runs.
        port: its port.
    """

    # FIXED_IN_FLY_SCAN stays empty: each of its images has a calibration of its own

    def __init__(self, autoscript_module: Any, host: str = "localhost", port: int = 7521) -> None:
        self._structures = _submodule(autoscript_module, "structures")
        self._enumerations = _submodule(autoscript_module, "enumerations")
        self._simulated = type(autoscript_module).__module__.startswith(
            "bluesky_em.acquisition.sim"
        )
        self._client = autoscript_module.TemMicroscopeClient()
        self._lock = threading.RLock()
        self._aborted = threading.Event()
        self._dtypes = {"scan_image": "<u2", "camera_image": "<u2"}
        with _naming_errors("connect to AutoScript at {}:{}".format(host, port)):
            self._client.connect(host, port)
            self._scanning_detectors = [str(d) for d in self._client.detectors.scanning_detectors]
            self._cameras = [str(d) for d in self._client.detectors.camera_detectors]
        self._beam = Beam(self._client, self._structures)
        self._settings = Settings(self._client, self._structures, self._beam)

    def identity(self) -> Dict[str, Any]:
        """Return vendor, name, serial number and versions."""
        with self._calling("read its identity"):
            system, autoscript = self._client.service.system, self._client.service.autoscript
            return {
                "vendor": "Thermo Fisher",
                "name": str(system.name),
                "serial_number": str(system.serial_number),
                "version": str(system.version),
                "autoscript": str(autoscript.server.version),
                "offline": bool(autoscript.server.is_offline),
                "simulated": self._simulated,
            }

    def settings(self) -> Dict[str, Dict[str, Any]]:
        """Describe every setting; limits and choices are the microscope's own where it has any."""
        with self._calling("describe its settings"):
            return self._settings.describe()

    def get(self, name: str) -> Any:
        """Read a setting from the microscope."""
        self._settings.check_known(name)
        with self._calling("read {}".format(name)):
            return self._settings.get(name)

    def set(self, name: str, value: Any) -> Any:
        """Change a setting and return what the microscope reads back.

        Raises:
            ValueError: the value is not allowed; the message says what is.
            RuntimeError: the microscope refuses.
        """
        self._settings.check_writable(name)
        with self._calling("set {} to {!r}".format(name, value)):
            return self._settings.set(name, value)

    def layout(self, detector: str, options: Mapping[str, Any]) -> Tuple[Tuple[int, ...], str]:
        """Return shape and dtype of the frame that `expose` would take."""
        return self._check_options(detector, options).shape, self._dtypes[detector]

    def expose(self, detector: str, options: Mapping[str, Any]) -> Exposure:
        """Take an image with the beam on only meanwhile; return when it has ended.

        Options of scan_image: detector (default HAADF), size in pixels along the whole scan (128 to
        4096, default 512), dwell (s, default 1e-6), region (left, top, width, height in fractions
        of the scan, default all of it). Options of camera_image: camera (default the first), size
        in pixels (512 to 4096, default 512), exposure (s, default 0.1).

        Raises:
            ValueError: an option is not allowed.
            RuntimeError: the microscope refuses, or the exposure was aborted. The beam is blanked.
        """
        wanted = self._check_options(detector, options)
        with self._calling("take a {}".format(detector)):
            self._aborted.clear()
            with self._beam.on():
                if self._aborted.is_set():
                    raise RuntimeError("The exposure was aborted before it began; no image.")
                started = time.time()
                image = images.acquire(self._client, self._structures, self._enumerations, wanted)
                ended = time.time()
            array = images.pixels_of(image)
            self._dtypes[detector] = array.dtype.str
            axes = images.axes_of(image, array.shape, wanted)
            metadata = images.metadata_of(image, wanted, axes)
            return checked(Exposure(array, axes, metadata, started, ended))

    def check_fly_scan(
        self, detector: str, options: Mapping[str, Any], scan: Optional[Mapping[str, Any]]
    ) -> None:
        """Check that a detector can take part in a fly scan (ValueError); nothing moves."""
        self._check_options(detector, options)
        if scan is not None:
            raise ValueError(
                "{} cannot take a map: here each frame is a scan of its own. Maps are taken by the "
                "spectrometer".format(detector)
            )

    def abort(self) -> None:
        """End an exposure that has not begun; AutoScript's acquire call cannot be interrupted.

        A running acquisition completes, its image is kept, and the beam is blanked as always.
        """
        self._aborted.set()

    def park(self) -> None:
        """Blank the beam, even while another call hangs; never raises, a failure is logged."""
        got_lock = self._lock.acquire(timeout=PARK_TIMEOUT)
        try:
            self._beam.blank(True)
        except Exception as exc:
            _log.error("The beam could not be blanked while parking: %s", exc)
        finally:
            if got_lock:
                self._lock.release()

    def _check_options(self, detector: str, options: Mapping[str, Any]) -> images.ImageOptions:
        return images.check_options(detector, options, self._scanning_detectors, self._cameras)

    @contextlib.contextmanager
    def _calling(self, action: str) -> Iterator[None]:
        """Hold the connection, and name the action in errors."""
        with self._lock, _naming_errors(action):
            yield


@contextlib.contextmanager
def _naming_errors(action: str) -> Iterator[None]:
    """Turn the vendor's errors into a RuntimeError that says what failed and what to do."""
    try:
        yield
    except (ValueError, RuntimeError):
        raise
    except Exception as exc:
        raise RuntimeError(
            "The microscope did not {}: {}: {}. Look at its user interface and at the "
            "AutoScript server; if the connection is lost, restart this acquisition "
            "server.".format(action, type(exc).__name__, str(exc).rstrip("."))
        ) from exc


def _submodule(module: Any, name: str) -> Any:
    """Return a submodule, which `import` of the vendor's package alone does not load."""
    part = getattr(module, name, None)
    return importlib.import_module(module.__name__ + "." + name) if part is None else part
