"""Bluesky and ophyd-async for analytical electron microscopes.

The flow, and where each step lives: a device's `trigger` ends with the exposure and hands out a
**reference** (`detector`, `reference`); it travels in **documents** (`documents`); the RunEngine
callback appends them to a **journal** and returns (`storage`, `journal`); a **writer** process
moves the frames from the acquisition servers' **spools** into files (`spool`, `writer`, `files`)
and feeds the **catalog** in order (`catalog`); **data** waits for references and reads them back
from any computer (`data`).

Names are loaded on first use: an instrument PC imports `bluesky_em.gatan` without Bluesky, and an
analyst's PC imports `bluesky_em.data` without the acquisition code.
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
