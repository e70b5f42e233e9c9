"""Two instrument PCs as processes on this computer, with simulated instruments."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import TracebackType

from bluesky_em.storage import processes

PROCESS_TIMEOUT = 30.0  # s for a server to end


class SimulatedPCs:
    """The processes `bluesky-em serve autoscript --simulate` and `... gatan --simulate`.

    They listen on free loopback ports, and end when this process ends or dies.

    Args:
        folder: for their spools and logs.
        replay: a recorded spectrum for the spectrometer to serve.
        latency: be as slow as the real instruments.
        spool_limit: GB that may wait in each spool.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        replay: Path | None = None,
        latency: bool = True,
        spool_limit: float | None = None,
    ):
        self._folder = Path(folder)
        both = [] if latency else ["--no-latency"]
        both += ["--spool-limit", str(spool_limit)] if spool_limit else []
        only_gatan = ["--replay", str(replay)] if replay else []
        self._options = {"autoscript": both, "gatan": both + only_gatan}
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.uris: dict[str, str] = {}
        """addresses of `gatan` and `autoscript`"""

    @property
    def addresses(self) -> dict[str, str]:
        """The arguments for the function in `devices/simulated.py`."""
        return {f"{name}_uri": uri for name, uri in self.uris.items()}

    def start(self, name: str) -> str:
        """Start one server, on the same port as before, and return its address.

        Raises:
            RuntimeError: it did not start; the message contains the end of its log.
        """
        port = self.uris[name].rpartition(":")[2] if name in self.uris else "0"
        folder = self._folder / f"{name}-pc"
        folder.mkdir(parents=True, exist_ok=True)
        beam = []
        if name == "gatan":
            address = self.uris["autoscript"].partition("@")[2]
            beam = ["--beam", f"PYRO:beam@{address}"]
        log = folder / "server.log"
        with open(log, "a") as output:
            process = subprocess.Popen(
                [
                    sys.executable, "-m", "bluesky_em", "serve", name, "--simulate", "--held",
                    "--port", port, "--spool", str(folder / "spool"), *beam, *self._options[name],
                ],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output, text=True,
                **processes.new_group_options(),
            )  # fmt: skip
        assert process.stdout is not None
        self.processes[name] = process
        line = process.stdout.readline()
        if "is ready" not in line:
            process.wait(timeout=PROCESS_TIMEOUT)
            raise RuntimeError(
                f"the simulated {name} server did not start: {log.read_text()[-2000:]}"
            )
        self.uris[name] = line.split()[-1]
        return self.uris[name]

    def kill(self, name: str) -> None:
        """Kill a server without warning, as a power cut would."""
        self.processes[name].kill()
        self._wait(name)

    def close(self) -> None:
        """Stop both servers; closing twice is harmless."""
        for process in self.processes.values():
            if process.stdin is not None:
                process.stdin.close()
        for name in self.processes:
            self._wait(name)

    def __enter__(self) -> SimulatedPCs:
        self.start("autoscript")
        self.start("gatan")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def _wait(self, name: str) -> None:
        process = self.processes[name]
        try:
            process.wait(timeout=PROCESS_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=PROCESS_TIMEOUT)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
