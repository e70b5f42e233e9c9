"""A client outlives its acquisition server."""

import subprocess
import sys
from pathlib import Path

import pytest

from bluesky_em.errors import ServerUnreachable
from tests.support.fake_server import FakeDriver, calling, served

ROOT = Path(__file__).parents[2]
SERVER = """
import sys
from bluesky_em.acquisition.instrument_pc.server import serve
from tests.support.fake_server import FakeDriver
started = lambda uri, stop: print(uri, flush=True)
serve(FakeDriver(), "eels_server", "127.0.0.1", 0, sys.argv[1], started=started)
"""


def test_a_client_whose_server_was_killed_works_again_after_one_failed_call(tmp_path: Path):
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with process, calling(process.stdout.readline().strip()) as client:  # type: ignore[union-attr]
        assert client.call("identity")["name"] == "fake"
        process.kill()
        process.wait()
        with pytest.raises(ServerUnreachable, match=client.address):
            client.call("identity")
        with served(FakeDriver(), tmp_path, port=int(client.uri.rpartition(":")[2])):
            assert client.call("identity")["name"] == "fake"
