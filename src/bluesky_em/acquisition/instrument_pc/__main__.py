"""The command `python -m instrument_pc`: serve the microscope of this PC (Python 3.7 syntax)."""

import argparse
import sys

from . import TEM_PORT, serve_autoscript


def main():
    """Serve until interrupted; exit with one line where that is not possible."""
    parser = argparse.ArgumentParser(
        prog="python -m instrument_pc",
        description="Serve the microscope of this PC, with AutoScript's Python. A spectrometer is "
        "served from a script inside DigitalMicrograph: from instrument_pc import serve_gatan.",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="interface to listen on (default: %(default)s); any other needs BLUESKY_EM_TOKEN",
    )
    parser.add_argument("--port", type=int, default=TEM_PORT, help="default: %(default)s")
    parser.add_argument("--spool", required=True, help="folder for waiting frames")
    parser.add_argument(
        "--microscope", default="localhost", help="host of AutoScript's server (default: this PC)"
    )
    parser.add_argument(
        "--spool-limit", type=float, help="GB that may wait in it (default: its disk)"
    )
    options = parser.parse_args()
    limit = None if options.spool_limit is None else int(options.spool_limit * 1e9)
    try:
        serve_autoscript(options.host, options.port, options.spool, options.microscope, limit)
    except (OSError, RuntimeError, ValueError) as exc:
        sys.exit("error: {}".format(exc))


if __name__ == "__main__":
    main()
