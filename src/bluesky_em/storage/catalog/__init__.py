"""The catalog: documents in, runs in Tiled out, in bluesky-tiled-plugins' layout.

Events wait here until what they refer to can be read; a run's stop document comes last. Nothing
here survives a crash, and nothing needs to: journal, ledger and Tiled itself tell where to go on.
The embedded server (`python -m bluesky_em.storage.catalog <storage>`) serves those who have no Tiled.
"""

from bluesky_em.files.tiled.row_map import KEY, axes_at, find, read_update, reference_at

from ..tiled_server._live_settings import LiveCache
from ..tiled_server._server import Address, address_of, serve
from ._feeder import Feeder
from ._run_ending import Ending

__all__ = [
    "Feeder", "Ending", "Address", "address_of", "serve", "KEY", "axes_at", "find",
    "read_update", "reference_at", "LiveCache",
]  # fmt: skip
