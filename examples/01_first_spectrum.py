"""Take a first spectrum: trigger, reference, wait, read.

    uv run python examples/01_first_spectrum.py [STORAGE]

Everything real but the instrument: two instrument PCs (as processes here), a RunEngine, a storage
folder with its writer. On a microscope the addresses change, and nothing else.
"""

import sys
from pathlib import Path

import bluesky.plans as bp
from bluesky import RunEngine
from ophyd_async.core import init_devices

from bluesky_em import Storage, autoscript, gatan
from bluesky_em.app.simulated_pcs import SimulatedPCs
from bluesky_em.plan_stubs import beam_on

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "em-data")

RE = RunEngine()
with Storage(folder) as storage, SimulatedPCs(folder) as pcs:
    RE.subscribe(storage)
    with init_devices():
        eels = gatan.Spectrometer(pcs.uris["gatan"], path_provider=storage.path_provider)
        microscope = autoscript.Microscope(pcs.uris["autoscript"])

    RE(beam_on(bp.count([eels], num=3), microscope))  # any Bluesky plan; then the beam is blanked
    reference = storage.references[-1]
    print("the reference, as soon as the exposure was over:", reference)

    storage.data.wait(reference, until="stored")
    spectrum = storage.data.open(reference).to_xarray()
    print(spectrum)
    print(f"zero loss at {float(spectrum.idxmax()):.1f} eV")
