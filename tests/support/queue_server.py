"""A queue server (RE Manager) on a lab's folder, which can be killed and started again."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from bluesky_queueserver_api.zmq import REManagerAPI

from tests.support.redis_server import free_port

START_TIMEOUT = 60.0  # s for the manager
TIMEOUT = 120.0  # s for the environment, and for a queue


class QueueServer:
    """The processes of `start-re-manager`, and a client of them; a context manager.

    Args:
        lab: a folder that `bluesky-em init` has filled.
        redis: its address, host:port.
    """

    def __init__(self, lab: Path, redis: str):
        self._lab = lab
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self.log = lab / "re-manager.log"
        self._command = [
            Path(sys.executable).parent / "start-re-manager",
            "--startup-dir", lab / "queue_server", "--redis-addr", redis,
            "--ignore-invalid-plans", "ON",
            "--zmq-control-addr", self.address,
            "--zmq-info-addr", f"tcp://127.0.0.1:{free_port()}",
        ]  # fmt: skip
        self.api: Any = REManagerAPI(
            zmq_control_addr=self.address, timeout_recv=START_TIMEOUT, status_polling_period=0.2
        )

    def start(self) -> None:
        """Start the manager, and open its environment."""
        with open(self.log, "ab") as output:
            self._process = subprocess.Popen(
                self._command, cwd=self._lab, stdout=output, stderr=output, start_new_session=True
            )
        self.api.wait_for_idle(timeout=START_TIMEOUT)
        self.api.environment_open()
        self.wait_until_idle()
        assert self.status["worker_environment_exists"], self.log.read_text()

    def kill(self) -> None:
        """Kill the manager and its worker without warning."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `qserver` with these arguments."""
        program = Path(sys.executable).parent / "qserver"
        return subprocess.run(
            [program, "--zmq-control-addr", self.address, *arguments],
            capture_output=True, text=True, timeout=START_TIMEOUT,
        )  # fmt: skip

    def wait_until_idle(self) -> None:
        """Wait until nothing runs."""
        self.api.wait_for_idle(timeout=TIMEOUT)

    @property
    def status(self) -> dict[str, Any]:
        """The manager's status."""
        return self.api.status(reload=True)

    def close_environment(self) -> None:
        """End the worker in order."""
        self.api.environment_close()
        self.wait_until_idle()

    def __enter__(self) -> "QueueServer":
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self.status["worker_environment_exists"]:
                self.close_environment()
        finally:
            self.kill()
            self.api.close()
