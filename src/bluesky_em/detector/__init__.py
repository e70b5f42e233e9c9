"""Detectors that hand out references: an acquisition server's answers become documents."""

from bluesky_em.errors import require

require("bluesky", "ophyd_async", "Pyro5")

from ._detector import RefDetector
from ._flyer import hold_all
from ._signals import SETTLING, ServerSignal, server_signal_r, server_signal_rw
from ._spool_fill import SpoolFill
from ._trigger_info import MapInfo, UpdateInfo

__all__ = [
    "RefDetector", "MapInfo", "UpdateInfo", "SpoolFill", "server_signal_r", "server_signal_rw",
    "ServerSignal", "SETTLING", "hold_all",
]  # fmt: skip
