"""Export: a stored frame or a whole stream in, one file for another program out.

HyperSpy files are written by RosettaSciIO, with the metadata that HyperSpy and exspy look for:
`hs.load` gives an `EELSSpectrum` whose quantification works. Neither is needed here.
"""

from ._export import FileFormat, write
from ._selection import Selection, select

__all__ = ["Selection", "select", "FileFormat", "write"]
