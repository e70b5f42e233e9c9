"""The writer: what turns journal and spool into files and catalog entries.

It runs in a process of its own, started and watched by `Storage`, or as a service
(`bluesky-em writer`). Journals come in (`_writer`, `_frames`); one thread per acquisition server
fetches, writes, verifies and releases frames (`_store`); the catalog's feeder follows behind. It
may be killed at any moment: the next one goes on from journals, ledger, files and Tiled.
"""

from ._writer import Writer

__all__ = ["Writer"]
