"""A blueapi server on a lab's folder, as the documentation starts it, and requests to it."""

import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import httpx
import yaml

from tests.support.fake_server import free_port

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "use-blueapi.md"
START_TIMEOUT = 180.0  # s, on a busy computer
TASK_TIMEOUT = 60.0  # s
POLL_INTERVAL = 0.1  # s


class BlueapiServer:
    """The processes of `python -m blueapi serve`; a context manager.

    Args:
        lab: a folder that `bluesky-em init` has filled, with a module `blueapi_sources`.
        settings: replace those on the page.
    """

    def __init__(self, lab: Path, **settings: Any):
        self._uri = f"http://127.0.0.1:{free_port()}"
        config = _config_on_the_page() | {"api": {"url": self._uri}} | settings
        (lab / "blueapi.yaml").write_text(yaml.safe_dump(config))
        self._log = lab / "blueapi.log"
        with open(self._log, "wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "blueapi", "--config", "blueapi.yaml", "serve"],
                cwd=lab, stdout=output, stderr=output,
            )  # fmt: skip

    @property
    def log(self) -> str:
        """What the server has logged."""
        return self._log.read_text()

    def get(self, path: str) -> Any:
        """Return the answer to a request."""
        return httpx.get(f"{self._uri}/{path}", timeout=TASK_TIMEOUT).raise_for_status().json()

    def begin(self, plan: str, **parameters: Any) -> str:
        """Begin to run a plan; return the task's id."""
        request = {"name": plan, "params": parameters, "instrument_session": "cm12345-1"}
        task = httpx.post(f"{self._uri}/tasks", json=request, timeout=TASK_TIMEOUT)
        active = {"task_id": task.raise_for_status().json()["task_id"]}
        begun = httpx.put(f"{self._uri}/worker/task", json=active, timeout=TASK_TIMEOUT)
        return begun.raise_for_status().json()["task_id"]

    def run(self, plan: str, **parameters: Any) -> Mapping[str, Any]:
        """Run a plan; return the outcome that its task has at the end."""
        path, deadline = f"tasks/{self.begin(plan, **parameters)}", time.monotonic() + TASK_TIMEOUT
        while not (task := self.get(path))["is_complete"]:
            assert time.monotonic() < deadline, f"{plan} is not done: {task}"
            time.sleep(POLL_INTERVAL)
        return task["outcome"]

    def __enter__(self) -> "BlueapiServer":
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                self.get("healthz")
                return self
            except httpx.HTTPError:
                running = self.process.poll() is None and time.monotonic() < deadline
                assert running, f"blueapi has not started: {self.log}"
                time.sleep(POLL_INTERVAL)

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(timeout=START_TIMEOUT)


def _config_on_the_page() -> dict[str, Any]:
    text = re.search(r"\n\n(    env:\n.*?)\n\n\S", PAGE.read_text("utf-8"), re.DOTALL)
    assert text is not None
    return yaml.safe_load(dedent(text[1]))
