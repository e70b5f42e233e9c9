"""Frames of one run, as a ledger holds them."""

from dataclasses import replace

from bluesky_em.axes import Axis
from bluesky_em.frame import Frame

FRAME = Frame(
    reference="run.eels/0",
    run="run",
    stream="primary",
    detector="eels",
    number=0,
    row=0,
    server="PYRO:eels_server@gatan-pc:9091",
    path="data/1970/01/01/run/eels.h5",
    shape=(4,),
    dtype="<f4",
    checksum=2**32 - 1,
    axes=(Axis(name="energy", units="eV", offset=0.1, scale=0.5, size=4),),
    ended=1.5,
    metadata={"exposure": 0.1, "camera": {"name": "Δ"}},
)


def frame(number: int) -> Frame:
    """Return the frame of this number, which is its row, too."""
    return replace(FRAME, reference=f"run.eels/{number}", number=number, row=number)
