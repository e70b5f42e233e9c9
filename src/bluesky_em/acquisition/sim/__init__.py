"""Look-alikes of the vendors' Python modules: everything runs without an instrument.

`digital_micrograph` and `autoscript` return objects whose attributes have the vendors' own names;
the drivers use them in place of the real modules and cannot tell the difference. Both share one
`Sample` and one `Beam`: a probe moved by AutoScript changes the Gatan spectrum, and a blanked beam
darkens it. In two processes the Gatan side reads the beam through `RemoteBeam`. They take as long
as the real modules (``latency=False``: no time at all), and compute a frame before its exposure
ends, so that measurements of speed do not measure the simulation.

    beam = Beam(blanked=False)
    spectrometer = SpectrometerDriver(digital_micrograph(beam=beam))
    microscope = MicroscopeDriver(autoscript(beam=beam))

A `Recording` plays a real spectrum or spectrum image through the spectrometer, bit for bit.
"""

from ._autoscript import Autoscript
from ._beam import Beam, HasSnapshot, RemoteBeam
from ._digital_micrograph import SCAN_RANGE, DigitalMicrograph
from ._line_reader import LineReader
from ._replay import Recording
from ._sample import Sample

__all__ = [
    "digital_micrograph", "autoscript", "Beam", "LineReader", "RemoteBeam", "Recording", "Sample",
    "SCAN_RANGE",
]  # fmt: skip


def digital_micrograph(
    *, beam: HasSnapshot, seed: int = 7, latency: bool = True, recording: Recording | None = None
) -> DigitalMicrograph:
    """Return a look-alike of the `DigitalMicrograph` module, with an EELS camera."""
    return DigitalMicrograph(beam, seed=seed, latency=latency, recording=recording)


def autoscript(*, beam: Beam, seed: int = 7, latency: bool = True) -> Autoscript:
    """Return a look-alike of the `autoscript_tem_microscope_client` module."""
    return Autoscript(beam, seed=seed, latency=latency)
