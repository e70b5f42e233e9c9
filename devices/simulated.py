"""The simulated microscope: the same two servers, on this computer.

`bluesky-em shell` and `bluesky-em demo` start them; by hand it is
`bluesky-em serve autoscript --simulate` and `bluesky-em serve gatan --simulate`.
"""

from __future__ import annotations

from ophyd_async.core import Device, PathProvider

from bluesky_em import autoscript, gatan

GATAN_PC = "PYRO:eels_server@127.0.0.1:9091"
MICROSCOPE_PC = "PYRO:tem_server@127.0.0.1:9095"


def devices(
    *, path_provider: PathProvider, gatan_uri: str = GATAN_PC, autoscript_uri: str = MICROSCOPE_PC
) -> dict[str, Device]:
    """Create the devices."""
    return {
        "eels": gatan.Spectrometer(gatan_uri, path_provider=path_provider, name="eels"),
        "adf": gatan.DarkField(gatan_uri, path_provider=path_provider, name="adf"),
        "haadf": autoscript.ScanImage(autoscript_uri, path_provider=path_provider, name="haadf"),
        "ceta": autoscript.CameraImage(autoscript_uri, path_provider=path_provider, name="ceta"),
        "microscope": autoscript.Microscope(autoscript_uri, name="microscope"),
        "stage": autoscript.Stage(autoscript_uri, name="stage"),
    }
