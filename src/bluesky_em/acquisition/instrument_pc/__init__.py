"""The software of an instrument PC, run by the vendor's own Python (3.7 syntax).

It needs NumPy, Pyro5 and msgpack, and nothing else of `bluesky_em`: this folder can be copied
alone. In a DigitalMicrograph script: `from instrument_pc import serve_gatan`. With AutoScript's
Python: `python -m instrument_pc --host 0.0.0.0 --spool D:/em-spool`.
"""

import importlib

EELS, EELS_PORT = "eels_server", 9091
TEM, TEM_PORT = "tem_server", 9095


class VendorModuleMissing(RuntimeError):
    """This Python has no module of the vendor."""


def gatan_driver():
    """Create the driver of this DigitalMicrograph's spectrometer.

    Raises:
        VendorModuleMissing: this is not DigitalMicrograph's Python.
    """
    from .gatan.driver import SpectrometerDriver

    return SpectrometerDriver(
        _vendor("DigitalMicrograph", "run this in a script inside DigitalMicrograph")
    )


def autoscript_driver(microscope="localhost"):
    """Create the driver of the microscope that AutoScript's server on `microscope` controls.

    Raises:
        VendorModuleMissing: AutoScript's client is not installed in this Python.
        RuntimeError: AutoScript's server does not answer.
    """
    from .autoscript.driver import MicroscopeDriver

    module = _vendor("autoscript_tem_microscope_client", "use the Python that AutoScript installs")
    return MicroscopeDriver(module, host=microscope)


def serve_gatan(host, port, spool, spool_limit=None):
    """Serve the spectrometer until DigitalMicrograph ends; `spool_limit` in bytes."""
    _serve(gatan_driver(), EELS, host, port, spool, spool_limit)


def serve_autoscript(host, port, spool, microscope="localhost", spool_limit=None):
    """Serve the microscope until interrupted; `spool_limit` in bytes."""
    driver = autoscript_driver(microscope)
    _serve(driver, TEM, host, port, spool, spool_limit)


def _serve(driver, name, host, port, spool, spool_limit):
    from .server import serve  # imports Pyro5, which this folder's other users do not need

    serve(driver, name, host, port, spool, started=_report, spool_limit=spool_limit)


def _report(uri, stop):
    print("ready: {}".format(uri), flush=True)


def _vendor(module, advice):
    try:
        return importlib.import_module(module)
    except ImportError as exc:
        raise VendorModuleMissing(
            "the vendor's module {!r} cannot be imported here: {}".format(module, advice)
        ) from exc
