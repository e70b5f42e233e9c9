"""Gatan: the EELS spectrometer behind DigitalMicrograph.

`_driver` runs inside DigitalMicrograph, behind an acquisition server; `Spectrometer` is the
device on the control PC. The device is loaded on first use, so that the Gatan PC needs no Bluesky.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._spectrometer import Spectrometer

__all__ = ["Spectrometer"]


def __getattr__(name: str) -> Any:
    if name == "Spectrometer":
        from ._spectrometer import Spectrometer

        return Spectrometer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
