"""The catalog feed: writes documents to Tiled as runs, in bluesky-tiled-plugins' layout.

An event waits here until the data that it refers to can be read; a run's stop document comes last.
Nothing here survives a crash, and nothing needs to: journal, ledger and Tiled itself show where to
continue.
"""

from ._feeder import Feeder
from ._run_ending import RunEnding

__all__ = ["Feeder", "RunEnding"]
