"""Start and restart the writer and the embedded Tiled server while a Storage is open."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from bluesky_em.files import storage_format
from bluesky_em.files.layout import Layout
from bluesky_em.files.locks import is_held

from . import processes
from ._periodic import Backoff, PeriodicThread
from .tiled_server import LiveCache

logger = logging.getLogger(__name__)


CHECK_INTERVAL = 0.25  # seconds
BACKOFF = (0.5, 30.0)  # seconds, first and longest pause before a process is started again
SHUTDOWN_TIMEOUT = 60.0  # seconds a process may take to end once its work is done
TAIL_BYTES = 8192  # of a log, among which its last line is
STEADY_AFTER = 60.0  # seconds of life after which the next pause is the first one again


class ChildProcess:
    """A process that is started again when it ends.

    Args:
        name: for messages.
        module: run as `python -m module arguments`.
        arguments: of the command line.
        lock: the lock file that it holds while it works. While another process holds it, none is
            started here: that one does the work.
        log: the file that its output is appended to.
        environment: added to this process's environment.
        clock: the time in s, which never goes back.
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
        clock: Callable[[], float] = time.monotonic,
    ):
        self.name = name
        self._lock = lock
        self._log = log
        self._command = module, arguments, log, environment
        self._clock = clock
        self._process: processes.Background | None = None
        self._backoff = Backoff(*BACKOFF)
        self._start_at = 0.0
        self._started = 0.0
        self._failures = 0
        self._why = ""
        self._refusal = ""

    @property
    def pid(self) -> int | None:
        """The process id; None while it does not run."""
        return self._process.pid if self._process else None

    @property
    def state(self) -> str:
        """`running`, or why it does not run."""
        if self._process is not None:
            return "running"
        if is_held(self._lock):
            return "running, started by another process"
        if self._start_at == float("inf"):
            return f"ended, and is not started again: {self._why}. See {self._log}"
        if self._refusal:
            return f"could not be started, and is tried again: {self._refusal}"
        if not self._failures:
            return f"not started yet; see {self._log}"
        times = "once" if self._failures == 1 else f"{self._failures} times"
        return f"died {times}, will be started again: {self._why}. See {self._log}"

    def check(self) -> None:
        """Start the process if it does not run and its pause is over."""
        now = self._clock()
        if self._process is not None and self._process.poll() is not None:
            self._ended(now, self._process.returncode)
        if self._process is None and now >= self._start_at and not is_held(self._lock):
            self._start(now)

    def release(self, *, at_once: bool = False) -> None:
        """Close its stdin; the process finishes pending work and exits."""
        if self._process is not None:
            processes.release(self._process, at_once=at_once)

    def wait(self, timeout: float) -> None:
        """Wait until it has ended; raises subprocess.TimeoutExpired after `timeout` seconds."""
        if self._process is not None:
            self._process.wait(timeout)

    def _start(self, now: float) -> None:
        try:
            self._process = processes.spawn(*self._command)
            self._started, self._refusal = now, ""
        except OSError as exc:
            self._refused(now, str(exc))

    def _ended(self, now: float, code: int) -> None:
        self.release()
        self._process = None
        if now - self._started > STEADY_AFTER:
            self._backoff.reset()
            self._failures = 0
        if code == processes.BUSY:  # another process was faster: no failure, no longer pauses
            self._start_at = now + BACKOFF[0]
        elif code == processes.USELESS:
            self._why, self._start_at = _last_line(self._log), float("inf")
            logger.error(
                "the %s ended, and is not started again: %s", self.name, self._why,
                extra={"action": "restart"},
            )  # fmt: skip
        else:
            self._why = f"exit code {code}, {_last_line(self._log)}"
            self._start_later(now, f"ended (exit code {code})")

    def _refused(self, now: float, why: str) -> None:
        """Try to start it later; the reason is logged once, and is in the state."""
        if why != self._refusal:
            logger.warning(
                "the %s could not be started: %s. It is tried again, nothing is lost",
                self.name, why,
                extra={"action": "restart"},
            )  # fmt: skip
        self._refusal = why
        self._start_at = now + self._backoff.next_delay()

    def _start_later(self, now: float, what: str) -> None:
        self._failures += 1
        delay = self._backoff.next_delay()
        self._start_at = now + delay
        logger.warning(
            "the %s %s; it is started again in %.1f s, nothing is lost. Log: %s",
            self.name, what, delay, self._log,
            extra={"action": "restart"},
        )  # fmt: skip


def _last_line(log: Path) -> str:
    """Return the last line of a log, where a process that fails says why."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return "its log cannot be read"
    return next((line.strip() for line in reversed(lines) if line.strip()), "its log is empty")


class Supervisor:
    """Starts the processes of one storage folder, and starts those that end again.

    Args:
        layout: the folder.
        tiled: address of a Tiled server; None: an embedded one is started, too.
        api_key: its key; the writer gets it through the environment, never on a command line.

    Raises:
        ValueError: the environment's settings for an embedded one are wrong.
    """

    def __init__(self, layout: Layout, *, tiled: str | None, api_key: str | None):
        layout.catalog.mkdir(parents=True, exist_ok=True)
        storage_format.mark(layout.root)
        key = {} if api_key is None else {"TILED_API_KEY": api_key}
        arguments = [str(layout.root), *([tiled] if tiled else [])]
        children = [
            ChildProcess(
                "writer", "bluesky_em.storage.writer", arguments,
                lock=layout.writer_lock, log=layout.writer_log, environment=key,
            )
        ]  # fmt: skip
        if tiled is None:
            LiveCache()  # checks the settings here: the server could only write to its log
            children.append(
                ChildProcess(
                    "Tiled server", "bluesky_em.storage.tiled_server", [str(layout.root)],
                    lock=layout.catalog_lock, log=layout.catalog / "server.log", environment={},
                )
            )  # fmt: skip
        self._children = {child.name: child for child in children}
        self._thread = PeriodicThread("supervisor", CHECK_INTERVAL, self._check, at_once=True)
        self._thread.start()

    def state(self, name: str) -> str:
        """Return a child's state; `not started here` for a Tiled server that is not embedded."""
        child = self._children.get(name)
        return child.state if child else "not started here"

    def pid(self, name: str) -> int | None:
        """Return a child's process id; None while it does not run."""
        child = self._children.get(name)
        return child.pid if child else None

    def close(self, *, wait: bool = False) -> None:
        """Release the processes: they finish their work and end; closing twice is harmless.

        Args:
            wait: until they have ended, which they do as soon as their work is done.
        """
        self._thread.stop()
        for child in self._children.values():
            child.release(at_once=wait)
        for child in self._children.values() if wait else ():
            child.wait(SHUTDOWN_TIMEOUT)

    def _check(self) -> None:
        for child in self._children.values():
            child.check()
