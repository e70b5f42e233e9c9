"""The RunEngine and the analysis of the fault test, each in a process of its own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from pathlib import Path

SCRIPTS = Path(__file__).parent
SHORT_RUN_TIMEOUT = 5.0  # s of each
OUTPUT_TIMEOUT = 10.0  # s in which what a killed process has printed is read


class Output:
    """The lines that a process prints, which are added to a set."""

    def __init__(self, lines: set[str]):
        self._lines = lines
        self._threads: list[threading.Thread] = []

    def read(self, process: subprocess.Popen[str]) -> None:
        """Read a process's output from now on."""
        thread = threading.Thread(target=self._read, args=[process], daemon=True)
        self._threads.append(thread)
        thread.start()

    def wait(self) -> None:
        """Wait until all output of processes that have ended has been read."""
        for thread in self._threads:
            thread.join(OUTPUT_TIMEOUT)

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            self._lines.update(line.strip() for line in lines if line.endswith("\n"))


class Engine:
    """A RunEngine in a process of its own, and a second process that waits to replace it."""

    def __init__(self, folder: Path, uris: dict[str, str], references: set[str]):
        self._command = [
            sys.executable, str(SCRIPTS / "engine.py"), str(folder), uris["gatan"],
            uris["autoscript"],
        ]  # fmt: skip
        self._output = Output(references)
        self._log = open(folder.parent / "engine.log", "a")
        self.process = self._next = self._spawn()
        self.replace()

    def replace(self) -> None:
        """Start the plans of the waiting process, and start another waiting one."""
        self.process, dead = self._next, self.process
        if dead is not self.process:
            reap(dead)
        self._begin("go")
        self._next = self._spawn()

    def take_short_runs(self, runs: int) -> None:
        """Take short runs in the waiting process, instead of the plans; return when they end."""
        self.process.kill()
        reap(self.process)
        self.process = self._next
        self._begin(f"go {runs}")
        self.process.wait(timeout=SHORT_RUN_TIMEOUT * runs)
        self._next = self._spawn()
        self.replace()

    def close(self) -> None:
        for process in (self.process, self._next):
            process.kill()
        for process in (self.process, self._next):
            reap(process)
        self._output.wait()
        self._log.close()

    def _begin(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        self._output.read(self.process)

    def _spawn(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
        )  # fmt: skip


class Analysis:
    """An analysis in a process of its own, which is started again when it has been killed."""

    def __init__(self, folder: Path, published: set[str]):
        self._command = [sys.executable, str(SCRIPTS / "analysis.py"), str(folder)]
        self._output = Output(published)
        self._log = open(folder.parent / "analysis.log", "a")
        self.process = self._spawn()

    def check(self) -> None:
        """Start it again if it has ended."""
        if self.process.poll() is not None:
            self.process = self._spawn()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._output.wait()
        self._log.close()

    def _spawn(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        self._output.read(process)
        return process


def reap(process: subprocess.Popen[str]) -> None:
    """Wait for the end of a process that has been killed."""
    process.wait()
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
