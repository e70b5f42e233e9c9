"""The end of a run, as the writer and the catalog feed report it to each other."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class RunEnding:
    """How a run ends: the writer sets the first two fields, the catalog feed the last one."""

    files_closed: bool = False
    """All frames have been stored (or have failed), and their files are finally closed."""
    abandoned: bool = False
    """The RunEngine's process died: no stop document will follow."""
    complete: bool = False
    """The run is complete in Tiled, and in the ledger."""
