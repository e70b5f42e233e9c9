"""Time in which good runs are complete beside runs that Tiled refuses.

`uv run python benchmarks/refused_runs.py [--refused 50] [--good 20]`

A proxy before Tiled answers every request about a refused run with 500 and closes the connection,
as Tiled does after an internal error. The good runs are timed twice in one run: alone, and while
the feed has the refused ones. Quote the ratio.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path

from event_model import compose_run

from bluesky_em import Storage
from bluesky_em.files.tiled.address import address_of

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.support.tiled_proxy import TiledProxy, proxy_to

TIMEOUT = 600.0  # seconds


def emit(storage: Storage) -> str:
    """Pass one run with two events to a storage; return its uid."""
    run = compose_run()
    described = run.compose_descriptor(
        name="primary", data_keys={"x": {"source": "sim", "dtype": "number", "shape": []}}
    )
    storage("start", run.start_doc)
    storage("descriptor", described.descriptor_doc)
    for number in range(2):
        event = described.compose_event(data={"x": float(number)}, timestamps={"x": 0.0})
        storage("event", event)
    storage("stop", run.compose_stop())
    return run.start_doc["uid"]


def time_of(storage: Storage, count: int) -> float:
    """Return the seconds until a number of good runs, given one after the other, are complete."""
    began = time.monotonic()
    for uid in [emit(storage) for _ in range(count)]:
        storage.data.wait(uid, timeout=TIMEOUT)
    return time.monotonic() - began


def measure(storage: Storage, proxy: TiledProxy, refused: int, good: int) -> None:
    """Time the good runs alone and beside refused ones, and print the ratio."""
    time_of(storage, 2)  # imports, and Tiled's first answers
    alone = time_of(storage, good)
    proxy.refuses_new = True
    bad = [emit(storage) for _ in range(refused)]
    deadline = time.monotonic() + TIMEOUT
    while not proxy.refused >= set(bad):
        assert time.monotonic() < deadline, "the feed does not try every run"
        time.sleep(0.1)
    proxy.refuses_new = False
    beside = time_of(storage, good)
    print(
        f"{good} runs alone: {alone:.1f} s; beside {refused} refused runs: {beside:.1f} s; "
        f"ratio {beside / alone:.2f}"
    )


def main() -> None:
    """Measure, with a Tiled server and a storage folder of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--refused", type=int, default=50, help="number of refused runs")
    parser.add_argument("--good", type=int, default=20, help="number of runs that are timed")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        with Storage(Path(folder) / "server") as server:
            deadline = time.monotonic() + TIMEOUT
            while (address := address_of(server.layout)) is None:
                assert time.monotonic() < deadline, "Tiled does not start"
                time.sleep(0.5)
            with proxy_to(address.uri) as proxy:
                fed = server.layout.data / "fed"
                with Storage(fed, tiled=proxy.uri, api_key=address.writer_key) as storage:
                    measure(storage, proxy, options.refused, options.good)


if __name__ == "__main__":
    main()
