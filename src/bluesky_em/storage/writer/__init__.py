"""The writer: creates files and catalog entries from journals and spools.

It runs in a process of its own, started by `Storage`, or as a service (`bluesky-em writer`). It
reads the journals and finds the frames in them (`_writer`, `_frame_finder`). One thread per
acquisition server fetches, writes, verifies and releases the frames (`_frame_transfer`). The
catalog's feeder then writes to Tiled. The writer may be killed at any moment: the next one
continues from journals, ledger, files and Tiled.
"""

from ._writer import Writer

__all__ = ["Writer"]
