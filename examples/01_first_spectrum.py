"""Take a first spectrum: trigger, reference, wait, read.

    uv run python examples/01_first_spectrum.py [STORAGE]

Only the instrument is simulated: there are two instrument PCs (processes here), a RunEngine, and a
storage folder with its writer. On a microscope only the addresses change.
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

    RE(
        beam_on(bp.count([eels], num=3), microscope)
    )  # any Bluesky plan; the beam is blanked after it
    reference = storage.references[-1]
    print("the reference, available when the exposure ended:", reference)

    storage.data.wait(reference, until="stored")
    spectrum = storage.data.open(reference).to_xarray()
    print(spectrum)
    print(f"zero loss at {float(spectrum.idxmax()):.1f} eV")
