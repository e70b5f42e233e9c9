"""Following runs live: the same points, in the same order, whenever and wherever one begins.

A `RunSource` knows one run as it grows, from Tiled (`TiledRun`, any PC) or from journal and ledger
(`FolderRun`, where the storage folder is). A `RunFollower` gives its points to whoever iterates: a
slow one takes memory for the events it has not asked for, and nobody else's time. What was there
before is read from the catalog, or the journal: no cache has to have kept it.
"""

from ._bookmark import Bookmark, lost_bookmark
from ._folder_run import FolderRun, FolderRuns
from ._follower import RunFollower, RunsFollower, RunSource, RunsSource
from ._point import End, Point
from ._tiled_run import TiledRun, TiledRuns

__all__ = [
    "Point", "End", "RunFollower", "RunsFollower", "Bookmark", "RunSource", "RunsSource",
    "FolderRun", "FolderRuns", "TiledRun", "TiledRuns", "lost_bookmark",
]  # fmt: skip
