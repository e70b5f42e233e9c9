"""Serve the instrument of this PC from inside the vendor's own Python (3.7 syntax).

Needs NumPy, Pyro5 and msgpack, nothing else of `bluesky_em`: this folder can be copied alone. In
a DigitalMicrograph script: `from instrument_pc import serve_gatan`. With AutoScript's Python:
`python -m instrument_pc --host 0.0.0.0 --spool D:/em-spool`.
"""

import argparse
import importlib

from .server import serve

EELS, EELS_PORT = "eels_server", 9091
TEM, TEM_PORT = "tem_server", 9095


def gatan_driver():
    """Drive the spectrometer of this DigitalMicrograph.

    Raises:
        RuntimeError: this is not DigitalMicrograph's Python.
    """
    from .gatan.driver import SpectrometerDriver

    return SpectrometerDriver(
        _vendor("DigitalMicrograph", "run this in a script inside DigitalMicrograph")
    )


def autoscript_driver(microscope="localhost"):
    """Drive the microscope through AutoScript.

    Raises:
        RuntimeError: AutoScript's client is not installed in this Python.
    """
    from .autoscript.driver import MicroscopeDriver

    module = _vendor("autoscript_tem_microscope_client", "use the Python that AutoScript installs")
    return MicroscopeDriver(module, host=microscope)


def serve_gatan(host, port, spool, spool_limit=None):
    """Serve the spectrometer until DigitalMicrograph ends; `spool_limit` in bytes."""
    serve(gatan_driver(), EELS, host, port, spool, started=_tell, spool_limit=spool_limit)


def serve_autoscript(host, port, spool, microscope="localhost", spool_limit=None):
    """Serve the microscope until interrupted; `spool_limit` in bytes."""
    driver = autoscript_driver(microscope)
    serve(driver, TEM, host, port, spool, started=_tell, spool_limit=spool_limit)


def _tell(uri, stop):
    print("ready: {}".format(uri))


def _vendor(module, hint):
    try:
        return importlib.import_module(module)
    except ImportError as exc:
        raise RuntimeError(
            "the vendor's module {!r} cannot be imported here: {}, or add --simulate".format(
                module, hint
            )
        ) from exc


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve the microscope of this PC.")
    parser.add_argument("--host", default="127.0.0.1", help="beyond loopback: BLUESKY_EM_TOKEN")
    parser.add_argument("--port", type=int, default=TEM_PORT)
    parser.add_argument("--spool", required=True, help="folder for waiting frames")
    parser.add_argument("--microscope", default="localhost", help="host of AutoScript's server")
    parser.add_argument("--spool-limit", type=float, help="GB that may wait there")
    options = parser.parse_args()
    serve_autoscript(
        options.host, options.port, options.spool, options.microscope,
        spool_limit=None if options.spool_limit is None else int(options.spool_limit * 1e9),
    )  # fmt: skip
