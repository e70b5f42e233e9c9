"""Detectors that return references: an acquisition server's answers become documents."""

from bluesky_em.errors import require

require("bluesky", "ophyd_async", "Pyro5")

from ._detector import RefDetector
from ._run_paths import RunPaths
from ._signals import ServerSignal, server_signal_r, server_signal_rw
from ._spool_fill import SpoolFill
from ._trigger_info import MapInfo, UpdateInfo

__all__ = [
    "RefDetector", "MapInfo", "UpdateInfo", "RunPaths", "SpoolFill",
    "server_signal_r", "server_signal_rw", "ServerSignal",
]  # fmt: skip
