"""A writer that hangs writes its stacks to its log, and ends at last."""

import subprocess
import sys
from pathlib import Path

PATIENCE = 30.0  # seconds
HANGING = """
import sys, threading
from pathlib import Path
from bluesky_em.storage.activity import Activity
from bluesky_em.storage.writer import _watchdog
_watchdog.INTERVAL, _watchdog.SILENCE_LIMIT, _watchdog.END_LIMIT = 0.05, 0.1, 0.5
activity = Activity("storing frames of a share")
activity.progress()
watchdog = _watchdog.Watchdog(lambda: [activity], Path(sys.argv[1]))
threading.Event().wait(float(sys.argv[2]))
print(watchdog.trouble)
"""


def test_a_process_that_hangs_writes_its_stacks_and_ends_once_for_each_call(tmp_path: Path) -> None:
    def run(seconds: float) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", HANGING, str(tmp_path / "writer.hang"), str(seconds)]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)

    first = run(PATIENCE)
    assert first.returncode == 1
    assert "Current thread" in first.stderr and "most recent call first" in first.stderr
    second = run(1.5)  # the same call once more: it may only be slow
    assert second.returncode == 0
    assert second.stdout.startswith("storing frames of a share: no progress for ")
