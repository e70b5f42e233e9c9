"""Keeps the writer and the embedded Tiled server running, as long as a Storage is open."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from bluesky_em.files.layout import Layout
from bluesky_em.files.locks import is_held

from . import processes
from .tiled_server import LiveCache

logger = logging.getLogger(__name__)


PERIOD = 0.25  # seconds between two looks
BACKOFF = (0.5, 30.0)  # seconds before a process that died is started again: first, longest
ENDING = 60.0  # seconds a process may take to end, once it has nothing left to do
STEADY = 60.0  # seconds a process must have lived for the backoff to begin anew


class ChildProcess:
    """One process that is started again when it dies.

    Args:
        name: for messages.
        module: run as `python -m module arguments`.
        arguments: of the command line.
        lock: what it holds while it works; whoever holds it does the work.
        log: where its output goes.
        environment: what it has beside this process's.
    """

    def __init__(
        self,
        name: str,
        module: str,
        arguments: list[str],
        *,
        lock: Path,
        log: Path,
        environment: dict[str, str],
    ):
        self.name = name
        self._lock = lock
        self._log = log
        self._command = module, arguments, log, environment
        self._process: processes.Background | None = None
        self._backoff = BACKOFF[0]
        self._start_at = 0.0
        self._started = 0.0

    @property
    def pid(self) -> int | None:
        """The process id, while it runs."""
        return self._process.pid if self._process else None

    @property
    def state(self) -> str:
        """`running`, or what its end was."""
        if self._process is not None:
            return "running"
        if is_held(self._lock):
            return "running, started by another process"
        return f"died, will be started again; see {self._log}"

    def look(self) -> None:
        """Start it if it does not run and its time has come."""
        now = time.monotonic()
        if self._process is not None and self._process.poll() is not None:
            self._died(now, self._process.returncode)
        if self._process is None and now >= self._start_at and not is_held(self._lock):
            self._process = processes.spawn(*self._command)
            self._started = now

    def let_go(self, *, hurry: bool = False) -> None:
        """Cut its lifeline: it finishes what it has to do, and ends."""
        if self._process is not None:
            processes.release(self._process, hurry=hurry)

    def wait(self, timeout: float) -> None:
        """Wait until it has ended; raises subprocess.TimeoutExpired after `timeout` seconds."""
        if self._process is not None:
            self._process.wait(timeout)

    def _died(self, now: float, code: int) -> None:
        self.let_go()
        self._process = None
        if now - self._started > STEADY:
            self._backoff = BACKOFF[0]
        self._start_at = now + self._backoff
        if code == processes.BUSY:
            return  # somebody else was faster
        logger.warning(
            "the %s ended (exit code %s); it is started again in %.1f s, nothing is lost. Log: %s",
            self.name, code, self._backoff, self._log,
            extra={"action": "restart"},
        )  # fmt: skip
        self._backoff = min(2 * self._backoff, BACKOFF[1])


class Supervisor:
    """Starts and watches the processes behind one storage folder.

    Args:
        layout: the folder.
        tiled: address of a Tiled server; None: an embedded one is kept, too.
        api_key: its key, handed to the writer through the environment, never on a command line.

    Raises:
        ValueError: the environment's settings for an embedded one are wrong.
    """

    def __init__(self, layout: Layout, *, tiled: str | None, api_key: str | None):
        layout.catalog.mkdir(parents=True, exist_ok=True)
        key = {} if api_key is None else {"TILED_API_KEY": api_key}
        arguments = [str(layout.root), *([tiled] if tiled else [])]
        children = [
            ChildProcess(
                "writer", "bluesky_em.storage.writer", arguments,
                lock=layout.writer_lock, log=layout.writer_log, environment=key,
            )
        ]  # fmt: skip
        if tiled is None:
            LiveCache()  # here, where somebody is told: that server would not start
            children.append(
                ChildProcess(
                    "Tiled server", "bluesky_em.storage.tiled_server", [str(layout.root)],
                    lock=layout.catalog_lock, log=layout.catalog / "server.log", environment={},
                )
            )  # fmt: skip
        self._children = {child.name: child for child in children}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="keeper", daemon=True)
        self._thread.start()

    def state(self, name: str) -> str:
        """Tell how a child does; `not kept here` for a Tiled server of somebody else's."""
        child = self._children.get(name)
        return child.state if child else "not kept here"

    def pid(self, name: str) -> int | None:
        """Give a child's process id, while it runs."""
        child = self._children.get(name)
        return child.pid if child else None

    def close(self, *, wait: bool = False) -> None:
        """Let the processes finish and end; closing twice is harmless.

        Args:
            wait: until they have ended, as soon as they can.
        """
        self._closing.set()
        self._thread.join()
        for child in self._children.values():
            child.let_go(hurry=wait)
        for child in self._children.values() if wait else ():
            child.wait(ENDING)

    def _keep(self) -> None:
        while True:
            for child in self._children.values():
                try:
                    child.look()
                except OSError:
                    logger.exception("the %s could not be started", child.name)
            if self._closing.wait(PERIOD):
                return
