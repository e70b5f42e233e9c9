"""The end of a run, as the writer reports it to the catalog feed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class RunEnding:
    """How a run ends, as far as the writer knows."""

    files_closed: bool = False
    """All frames have been stored (or have failed), and their files are finally closed."""
    abandoned: bool = False
    """The RunEngine's process died: no stop document will follow."""
