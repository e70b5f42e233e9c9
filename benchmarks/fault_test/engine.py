"""The RunEngine's process: `engine.py FOLDER GATAN AUTOSCRIPT`; it begins at a line on its stdin.

`go` takes all kinds of runs for ever; `go N` takes N short ones and ends. References are printed as
plans receive them. It may have 256 open files, and so may the processes that it starts.
"""

import itertools
import os
import resource
import sys
import threading
import time
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import bluesky.preprocessors as bpp
import numpy as np
from bluesky import RunEngine
from bluesky.utils import MsgGenerator
from ophyd_async.core import Array1D, init_devices, soft_signal_rw

from bluesky_em import MapInfo, Storage, autoscript, documents, gatan
from bluesky_em.detector import UpdateInfo
from bluesky_em.plan_stubs import fly, per_shot
from bluesky_em.storage import supervisor

OPEN_FILES = 256
INTERVAL = 1.0  # s between runs: else the catalog has work for an hour at the end

_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, hard))
supervisor.BACKOFF = (0.05, 0.05)  # s; its processes are killed often here

folder, gatan_uri, autoscript_uri = sys.argv[1:]
RE = RunEngine()
storage = Storage(folder, durability="power")  # no document is lost with the power
RE.subscribe(storage)
command, _, number_of_runs = sys.stdin.readline().partition(" ")
if not command:  # the test has ended
    sys.exit()


def end_with_the_test() -> None:
    """End this process when the test has ended, however it did."""
    sys.stdin.read()
    os._exit(0)


threading.Thread(target=end_with_the_test, daemon=True).start()
with init_devices():
    eels = gatan.Spectrometer(gatan_uri, path_provider=storage.path_provider)
    adf = gatan.DarkField(gatan_uri, path_provider=storage.path_provider)
    haadf = autoscript.ScanImage(autoscript_uri, path_provider=storage.path_provider)
    trace = soft_signal_rw(Array1D[np.float64], np.arange(32.0))  # an array inside events
    temperature = soft_signal_rw(float)

tracker = documents.ReferenceTracker()


def print_references(name: str, document: Any) -> None:
    """Print the references that a document hands out."""
    tracker.learn(name, document)
    for reference in tracker.handed_out(name, document):
        print(reference, flush=True)


@bpp.stage_decorator([eels, adf, haadf])
@bpp.run_decorator()
@bpp.monitor_during_decorator([temperature])
def steps_and_maps() -> MsgGenerator[None]:
    """Take spectra and images, maps between them, and monitor a signal."""
    for number in range(4):
        yield from bps.mv(temperature, float(number))
        for _ in range(8):
            yield from per_shot([eels, haadf, trace])
        yield from fly([eels, adf], MapInfo(shape=(8, 32), livetime=1e-3), "map", period=0.05)


@bpp.stage_decorator([eels])
@bpp.run_decorator()
def updates(info: UpdateInfo | MapInfo) -> MsgGenerator[None]:
    """Take sums, live views, or a cube."""
    yield from fly([eels], info, period=0.05)


def take_all_kinds() -> None:
    """Take runs for ever; a plan fails when its acquisition server is killed."""
    infos = itertools.cycle([
        UpdateInfo(number_of_events=20, livetime=0.02, mode="accumulate"),
        UpdateInfo(number_of_events=20, livetime=0.02, mode="replace", keep_versions=2),
        MapInfo(shape=(16, 32), livetime=1e-3, mode="add_slice"),
    ])  # fmt: skip
    RE(bps.mv(eels.exposure, 0.02, haadf.size, 128, haadf.dwell, 1e-6))
    while True:
        try:
            RE(updates(next(infos)))
            RE(steps_and_maps())
            time.sleep(INTERVAL)
        except Exception as exc:
            print("failed:", type(exc).__name__, file=sys.stderr, flush=True)
            time.sleep(2.0)  # else there would be a run for each moment without its server


RE.subscribe(print_references)
if number_of_runs.strip():
    RE(bps.mv(eels.exposure, 0.001))
    for _ in range(int(number_of_runs)):
        RE(bp.count([eels]))
else:
    take_all_kinds()
