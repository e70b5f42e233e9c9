"""A process may have a limited number of files open; runs that wait for Tiled may be more."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

LIMIT = 200  # files that each process may have open
RUNS = 260
MANY_RUNS = """
import resource
import sys
import time

from event_model import compose_run

from bluesky_em.app.session import Session

limit, runs = int(sys.argv[2]), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
with Session(sys.argv[1], latency=False, tiled="http://127.0.0.1:1") as session:
    for _ in range(runs):
        run = compose_run()
        session.storage("start", run.start_doc)
        session.storage("stop", run.compose_stop())
        while len(list(session.storage.layout.journal.glob("*.lock"))) > 20:
            time.sleep(0.01)  # this process still syncs the journals of the runs before
    reference = session.acquire_eels(exposure=0.001)
    print(session.data.wait(reference, until="stored", timeout=60).stage)
    print(session.storage.status().open_runs)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit of open files to set")
def test_a_frame_is_stored_beside_more_unfinished_runs_than_files_may_be_open(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-c", MANY_RUNS, str(tmp_path), str(LIMIT), str(RUNS)],
        capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["stored", str(RUNS + 1)]
