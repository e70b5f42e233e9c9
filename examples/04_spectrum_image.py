"""Take a spectrum image in one fly scan, and map an element.

    uv run python examples/04_spectrum_image.py [STORAGE]

`prepare` with a `MapInfo` makes a fly scan a map; `fly` starts both detectors together and collects
documents after each line. The reference of frame n of the map is `<run uid>.eels/<n>`.
"""

import sys
from pathlib import Path

import bluesky.preprocessors as bpp
from bluesky import RunEngine
from ophyd_async.core import init_devices

from bluesky_em import MapInfo, Reference, Storage, autoscript, gatan
from bluesky_em.analysis import elemental_map
from bluesky_em.app.simulated_pcs import SimulatedPCs
from bluesky_em.plan_stubs import beam_on, fly

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "em-data")

RE = RunEngine()
with Storage(folder) as storage, SimulatedPCs(folder) as pcs:
    RE.subscribe(storage)
    with init_devices():
        eels = gatan.Spectrometer(pcs.uris["gatan"], path_provider=storage.path_provider)
        adf = gatan.DarkField(pcs.uris["gatan"], path_provider=storage.path_provider)
        microscope = autoscript.Microscope(pcs.uris["autoscript"])

    @bpp.stage_decorator([eels, adf])
    @bpp.run_decorator(md={"sample": "SrTiO3 flakes"})
    def plan():
        """Take the map in one run."""
        yield from fly([eels, adf], MapInfo(shape=(16, 16), livetime=0.005))

    RE(beam_on(plan(), microscope))
    reference = storage.references[-1]
    run = Reference.parse(reference).run
    print("the last of 256 points, available when it was taken:", reference)

    storage.data.wait(run)
    stream = storage.data.stream(run)  # an xarray.Dataset that reads only the parts that are used
    titanium = elemental_map(stream.eels.values, stream.energy.values, onset=456.0)
    print(stream)
    print(f"titanium in {(titanium > titanium.mean()).mean():.0%} of the map")
