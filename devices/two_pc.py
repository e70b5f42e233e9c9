"""A microscope with its two PCs: Gatan's and Thermo Fisher's."""

from __future__ import annotations

from ophyd_async.core import Device, PathProvider

from bluesky_em import autoscript, gatan

GATAN_PC = "PYRO:eels_server@gatan-pc:9091"
MICROSCOPE_PC = "PYRO:tem_server@tem-pc:9095"


def devices(
    *, path_provider: PathProvider, gatan_uri: str = GATAN_PC, autoscript_uri: str = MICROSCOPE_PC
) -> dict[str, Device]:
    """Create the devices; set BLUESKY_EM_TOKEN to the token of both servers."""
    return {
        "eels": gatan.Spectrometer(gatan_uri, path_provider=path_provider, name="eels"),
        "adf": gatan.DarkField(gatan_uri, path_provider=path_provider, name="adf"),
        "haadf": autoscript.ScanImage(autoscript_uri, path_provider=path_provider, name="haadf"),
        "ceta": autoscript.CameraImage(autoscript_uri, path_provider=path_provider, name="ceta"),
        "microscope": autoscript.Microscope(autoscript_uri, name="microscope"),
        "stage": autoscript.Stage(autoscript_uri, name="stage"),
    }
