"""Export of a stored frame, or a whole stream, to one file for another program.

HyperSpy files are written by RosettaSciIO, with the metadata that HyperSpy and exspy read:
`hs.load` returns an `EELSSpectrum` whose quantification works. Neither is needed for writing.
"""

from ._export import FileFormat, write
from ._selection import Selection, select

__all__ = ["Selection", "select", "FileFormat", "write"]
