"""Gatan: the EELS spectrometer behind DigitalMicrograph.

`_driver` runs inside DigitalMicrograph, behind an acquisition server; `Spectrometer` and
`DarkField` are the devices on the control PC. They are loaded on first use, so that the Gatan PC
needs no Bluesky.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._dark_field import DarkField
    from ._spectrometer import Spectrometer

__all__ = ["Spectrometer", "DarkField"]

_HOMES = {"Spectrometer": "_spectrometer", "DarkField": "_dark_field"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
