"""Bluesky and ophyd-async for analytical electron microscopes.

The way of a frame, and the package for each step:

* `acquisition`: an acquisition server on the instrument PC exposes a frame and keeps it in its
  **spool**.
* `detector`: a device's `trigger` ends with the exposure. It emits documents that hold a
  **reference** to the frame instead of its pixels. `gatan` and `autoscript` are the vendors'
  devices, `plan_stubs` the messages that plans share.
* `storage`: the RunEngine calls `Storage`, which appends the documents to a **journal** and
  returns. A writer process moves the frames from the spools into files, then feeds the documents
  to Tiled, in order.
* `files`: what is in a storage folder: journal, ledger, HDF5 files, master files.
* `data`: `Data` waits for references, opens frames and follows runs, on any PC.
* `analysis`: functions on frames; `analysis.online` runs them while a run goes.
* `app`: the command line, the session and the demo, on top of all these.
* `remote`: plans on the microscope of another PC, through its queue server.

`reference`, `documents`, `frame`, `axes`, `update_modes` and `errors` hold the terms that all
packages share.

Names are loaded on first use: an analyst's PC imports `bluesky_em.data` without the acquisition
code, and an instrument PC imports `bluesky_em.acquisition.instrument_pc` without Bluesky.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .data import Data
    from .detector import MapInfo, RefDetector
    from .errors import BlueskyEMError, NotReady, ReferenceFailed, UnknownReference
    from .reference import Reference, ReferenceState
    from .storage.callback import Storage

__all__ = [
    "Storage",
    "Data",
    "Reference",
    "ReferenceState",
    "RefDetector",
    "MapInfo",
    "BlueskyEMError",
    "NotReady",
    "ReferenceFailed",
    "UnknownReference",
]

_HOMES = {
    "Storage": "storage.callback",
    "Data": "data",
    "Reference": "reference",
    "ReferenceState": "reference",
    "RefDetector": "detector",
    "MapInfo": "detector",
    "BlueskyEMError": "errors",
    "NotReady": "errors",
    "ReferenceFailed": "errors",
    "UnknownReference": "errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        home = import_module(f".{_HOMES[name]}", __name__)
    except ModuleNotFoundError as exc:
        from .errors import extra_missing

        raise extra_missing(exc.name or str(exc)) from exc
    return getattr(home, name)
