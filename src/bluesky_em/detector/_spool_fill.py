"""How full a spool is, for those who would rather have the RunEngine suspended than wait."""

from __future__ import annotations

import threading

from ophyd import Signal

from bluesky_em.acquisition.client import Client
from bluesky_em.errors import ServerUnreachable

PERIOD = 1.0  # seconds between two looks


class SpoolFill(Signal):
    """The fill level of an acquisition server's spool, 0 to 1; looked up every second.

    Usage:
        RE.install_suspender(SuspendCeil(SpoolFill(eels.uri), 0.8, resume_thresh=0.5))

    Without it a trigger waits when the spool is full. While the server does not answer, the level
    stays what it was: that is for the devices to notice.

    Args:
        uri: the acquisition server.
    """

    def __init__(self, uri: str, *, name: str = "spool_fill"):
        super().__init__(name=name, value=0.0)
        self._line = Client(uri)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"{name} {uri}", daemon=True)
        self._thread.start()

    def destroy(self) -> None:
        """Look no more."""
        self._stopping.set()
        self._thread.join()
        super().destroy()

    def _watch(self) -> None:
        while True:
            try:
                status = self._line.call("status")
                self.put(status["bytes"] / max(1, status["capacity"]))
            except ServerUnreachable:
                pass
            if self._stopping.wait(PERIOD):
                self._line.close()
                return
