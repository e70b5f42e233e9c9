"""The software of an instrument PC at work: copied alone, served by a real Python 3.7."""

import re
import subprocess
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bluesky_em.acquisition.client import Client
from tests.support.python37 import (
    FILES,
    PACKAGE,
    clean_environment,
    copy_package,
    environment37,
    find_python37,
    run,
)

PATIENCE = 30.0  # seconds to wait for the other process
SERVER = '''
import sys
import threading
import time

import numpy as np

from instrument_pc.driver import Driver
from instrument_pc.exposure import Exposure
from instrument_pc.limits import in_limits
from instrument_pc.server import serve

ENERGY = {"name": "energy", "units": "eV", "offset": -2.0, "scale": 0.5, "size": 8}


class SmallDriver(Driver):
    """Exposes a ramp; in a map, each spectrum is full of its number."""

    def identity(self):
        return {"vendor": "None", "name": "small", "simulated": True, "python": sys.version}

    def settings(self):
        return {}

    def get(self, name):
        raise ValueError("There is no setting '{}'.".format(name))

    def set(self, name, value):
        raise ValueError("There is no setting '{}'.".format(name))

    def layout(self, detector, options):
        if detector != "eels":
            raise ValueError("There is no detector '{}'.".format(detector))
        in_limits("exposure", options.get("exposure", 0.1), (1e-6, 5.0), "s")
        return (8,), "<f4"

    def expose(self, detector, options):
        self.layout(detector, options)
        now = time.time()
        return Exposure(np.arange(8, dtype="<f4"), [ENERGY], dict(options), now, now)

    def check_fly_scan(self, detector, options, scan):
        self.layout(detector, options)

    def fly(self, orders, count, scan=None):
        lines, points = scan["shape"]
        for line in range(lines):
            numbers = np.arange(line * points, (line + 1) * points, dtype="<f4")
            spectra = np.repeat(numbers[:, np.newaxis], 8, axis=1)
            now = time.time()
            yield {"eels": Exposure(spectra, [ENERGY], {"index": [line, 0, 0]}, now, now)}

    def abort(self):
        pass

    def park(self):
        print("parked", flush=True)


def stop_at_end_of_input(uri, stop):
    print(uri, flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), stop()), daemon=True).start()


serve(SmallDriver(), "eels_server", "127.0.0.1", 0, sys.argv[1], started=stop_at_end_of_input)
'''


@dataclass
class PC:
    """A folder with a copy of `instrument_pc` in it, and a Python 3.7 to run it."""

    python: str
    folder: Path


@pytest.fixture(scope="module")
def pc(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PC:
    assert request.config.cache is not None
    folder = tmp_path_factory.mktemp("instrument pc")
    copy_package(folder)
    return PC(str(environment37(request.config.cache)), folder)


@pytest.fixture(scope="module")
def client(pc: PC) -> Iterator[Client]:
    (pc.folder / "serve_small.py").write_text(SERVER)
    with subprocess.Popen(
        [pc.python, "serve_small.py", "spool"], cwd=pc.folder, env=clean_environment(),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        assert server.stdin and server.stdout and server.stderr
        uri = server.stdout.readline().strip()
        assert uri.startswith("PYRO:"), server.stderr.read()
        client = Client(uri, token="")
        yield client
        client.close()
        printed, errors = server.communicate("", timeout=PATIENCE)
        assert (server.returncode, printed, errors) == (0, "parked\n", "")


def pixels_of(client: Client, header: dict[str, Any]) -> np.ndarray:
    data = client.call("fetch", header["reference"], 0, header["nbytes"])
    assert zlib.crc32(data) == header["checksum"]
    return np.frombuffer(data, header["dtype"]).reshape(header["shape"])


@pytest.mark.timeout(600)  # the first time, packages are installed
def test_it_is_python_37_that_serves(client: Client):
    assert client.call("identity")["python"].startswith("3.7.")


def test_an_exposure_arrives_with_its_pixels_axis_and_summary(client: Client):
    header = client.call("expose", "run.eels/0", "eels", {"exposure": 0.25})
    assert pixels_of(client, header).tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert header["axes"][0].items() >= {"name": "energy", "units": "eV", "size": 8}.items()
    assert header["metadata"] == {"exposure": 0.25}
    assert (header["summary"]["total"], header["summary"]["max"]) == (28.0, 7.0)


def test_a_map_arrives_whole(client: Client):
    scan = {"shape": [5, 4], "region": [0.0, 0.0, 1.0, 1.0], "sync": "hardware"}
    order = {
        "base": "run/map", "first": 0, "frames": 20, "duration": 0.02, "options": {}, "scan": scan
    }  # fmt: skip
    client.call("arm", "eels", order)
    client.call("kickoff", "eels")
    deadline = time.monotonic() + PATIENCE
    while not (progress := client.call("progress", "eels"))["done"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (progress["captured"], progress["block"], progress["error"]) == (20, 5, "")
    blocks = [client.call("header", f"run/map/{first}") for first in range(0, 20, 5)]
    spectra = np.concatenate([pixels_of(client, block) for block in blocks])
    assert np.array_equal(spectra, np.repeat(np.arange(20.0)[:, np.newaxis], 8, axis=1))


def test_a_wrong_option_is_refused_in_words(client: Client):
    with pytest.raises(ValueError, match="exposure is 6 s; it must lie between 1e-06 and 5 s"):
        client.call("expose", "run.eels/1", "eels", {"exposure": 6.0})


def test_the_command_describes_its_options(pc: PC):
    printed = run([pc.python, "-m", "instrument_pc", "--help"], cwd=pc.folder)
    for option in ("--host", "--port", "--spool", "--microscope", "--spool-limit"):
        assert option in printed


def test_without_autoscript_the_command_advises_only_options_that_it_has(pc: PC):
    done = subprocess.run(
        [pc.python, "-m", "instrument_pc", "--spool", "spool"], cwd=pc.folder,
        env=clean_environment(), capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 1
    assert re.match("error: the vendor's module 'autoscript_tem.* cannot be imported", done.stderr)
    assert "use the Python that AutoScript installs" in done.stderr
    assert "--" not in done.stderr and "Traceback" not in done.stderr


def test_a_real_python_37_compiles_all_files():
    code = (
        "import sys; [compile(open(f, encoding='utf-8').read(), f, 'exec') for f in sys.argv[1:]]"
    )
    run([find_python37(), "-c", code, *(str(PACKAGE / file) for file in FILES)])
