"""The catalog: documents in, runs in Tiled out, in bluesky-tiled-plugins' layout.

Events wait here until what they refer to can be read; a run's stop document comes last. Nothing
here survives a crash, and nothing needs to: journal, ledger and Tiled itself tell where to go on.
The embedded server (`python -m bluesky_em.catalog <storage>`) serves those who have no Tiled.
"""

from ._ending import Ending
from ._feeder import Feeder
from ._live_cache import LiveCache
from ._rows import KEY, axes_at, find, read_update, reference_at
from ._server import Address, address_of, serve

__all__ = [
    "Feeder", "Ending", "Address", "address_of", "serve", "KEY", "axes_at", "find",
    "read_update", "reference_at", "LiveCache",
]  # fmt: skip
