"""The catalog: documents in, runs in Tiled out, in bluesky-tiled-plugins' layout.

Events wait here until what they refer to can be read; a run's stop document comes last. Nothing
here survives a crash, and nothing needs to: journal, ledger and Tiled itself tell where to go on.
"""

from ._feeder import Feeder
from ._run_ending import RunEnding

__all__ = ["Feeder", "RunEnding"]
