"""Use other detectors in the same plan, catalogued in the same way.

    uv run python examples/03_third_party_detector.py [STORAGE]

A classic ophyd detector (resource and datum, a file per frame) and an ophyd-async
`StandardDetector` (stream_resource and stream_datum, writes its own HDF5), beside one of ours.
"""

import sys
from pathlib import Path

import bluesky.plans as bp
import numpy as np
from bluesky import RunEngine
from ophyd.sim import SynSignalWithRegistry
from ophyd_async.core import StaticPathProvider, UUIDFilenameProvider, init_devices
from ophyd_async.sim import PatternGenerator, SimBlobDetector

from bluesky_em import Storage, gatan
from bluesky_em.app.simulated_pcs import SimulatedPCs

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "em-data")

RE = RunEngine()
others = folder.absolute().with_name(f"{folder.name}-others")  # where they write
others.mkdir(parents=True, exist_ok=True)
with Storage(folder, readable=[others]) as storage, SimulatedPCs(folder) as pcs:
    RE.subscribe(storage)
    camera = SynSignalWithRegistry(
        func=lambda: np.random.default_rng(0).random((16, 16)), name="camera", save_path=str(others)
    )
    with init_devices():
        eels = gatan.Spectrometer(pcs.uris["gatan"], path_provider=storage.path_provider)
        blob = SimBlobDetector(
            StaticPathProvider(UUIDFilenameProvider(), others), PatternGenerator()
        )

    (run_uid,) = RE(bp.count([eels, camera, blob], num=3))
    storage.data.wait(run_uid)

    dataset = storage.data.catalog[run_uid]["primary"].read()
    print(dataset)
    assert {"eels", "camera", "blob"} <= set(dataset), set(dataset)
