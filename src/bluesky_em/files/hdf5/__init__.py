"""Frames on disk: what comes in is a verified frame, what goes out is a file anyone can open.

One HDF5 file per detector and run, growing row by row, readable while it grows, and repaired
where a killed writer left it torn. A row that was flushed survives any process. Streams whose
updates are more than frames one behind the other are in `files.updates`.
"""

from ._frames_file import FramesFile, FramesReader
from ._repair import is_torn, repair

__all__ = ["FramesFile", "FramesReader", "is_torn", "repair"]
