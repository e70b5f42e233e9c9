"""SpoolFill: a spool's fill level, for plans to be suspended by instead of waiting."""

from __future__ import annotations

import threading

from ophyd import Signal

from bluesky_em.acquisition.client import SpoolClient
from bluesky_em.errors import ServerUnreachable

POLL_INTERVAL = 1.0  # seconds between two requests for the fill level


class SpoolFill(Signal):
    """The fill level of an acquisition server's spool, 0 to 1; updated every second.

    Usage:
        RE.install_suspender(SuspendCeil(SpoolFill(eels.uri), 0.8, resume_thresh=0.5))

    Without it a trigger waits when the spool is full. While the server does not answer, the level
    stays what it was: the devices report that.

    Args:
        uri: the acquisition server.
    """

    def __init__(self, uri: str, *, name: str = "spool_fill"):
        super().__init__(name=name, value=0.0)
        self._spool = SpoolClient(uri)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"{name} {uri}", daemon=True)
        self._thread.start()

    def destroy(self) -> None:
        """Stop the updates."""
        self._stopping.set()
        self._thread.join()
        super().destroy()

    def _watch(self) -> None:
        while True:
            try:
                status = self._spool.status()
                self.put(status["bytes"] / max(1, status["capacity"]))
            except ServerUnreachable:
                pass
            if self._stopping.wait(POLL_INTERVAL):
                self._spool.close()
                return
