"""HDF5 files of frames: written from verified frames, readable by anything.

One file per detector and run. It grows row by row, can be read while it grows, and is repaired if
its writer was killed. A flushed row survives the end of any process. A stream whose frames are not
rows but change one array has a file of `files.hdf5.updates`.
"""

from ._frames_file import FramesFile
from ._frames_reader import FramesReader
from ._repair import is_torn, repair
from ._replacement import is_damage, replace_damaged, set_aside
from ._scan_datasets import TAKEN, scan_names
from ._structure import put_back

__all__ = [
    "FramesFile", "FramesReader", "TAKEN", "is_damage", "is_torn", "put_back", "repair",
    "replace_damaged", "scan_names", "set_aside",
]  # fmt: skip
