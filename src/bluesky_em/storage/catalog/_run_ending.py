"""What the writer tells the catalog of a run's end."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class RunEnding:
    """How a run ends, as far as the writer knows."""

    files_closed: bool = False
    """All frames have been stored (or have failed), and their files closed for good."""
    abandoned: bool = False
    """The RunEngine's process died: there will be no stop document."""
