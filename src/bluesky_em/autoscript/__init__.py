"""AutoScript: a Thermo Fisher microscope.

`_driver` runs on the microscope PC, behind an acquisition server; the devices run on the control
PC. They are loaded on first use, so that the microscope PC needs no Bluesky.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._camera_image import CameraImage
    from ._microscope import Microscope
    from ._scan_image import ScanImage
    from ._stage import Stage

__all__ = ["Microscope", "Stage", "ScanImage", "CameraImage"]

_HOMES = {
    "Microscope": "._microscope",
    "Stage": "._stage",
    "ScanImage": "._scan_image",
    "CameraImage": "._camera_image",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)
