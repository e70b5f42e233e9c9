"""Following runs live: the same points in the same order, whenever and wherever one begins.

A `RunSource` collects the points of one run as it grows: from Tiled (`TiledRun`, on any PC) or from
journal and ledger (`FolderRun`, with the storage folder). A `RunFollower` iterates over them. A
slow follower needs memory for the events it has not taken yet, and delays no other follower.
Earlier points are read from the catalog, or the journal, so no cache has to keep them.
"""

from ._bookmark import Bookmark, lost_bookmark
from ._folder_run import FolderRun, FolderRuns
from ._follower import RunFollower, RunsFollower, RunSource, RunsSource
from ._point import End, Point
from ._published_results import PublishedResults
from ._tiled_nodes import read_rows
from ._tiled_run import TiledRun
from ._tiled_runs import TiledRuns

__all__ = [
    "Point", "End", "RunFollower", "RunsFollower", "Bookmark", "RunSource", "RunsSource",
    "FolderRun", "FolderRuns", "TiledRun", "TiledRuns", "PublishedResults", "lost_bookmark",
    "read_rows",
]  # fmt: skip
