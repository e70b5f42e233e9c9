"""Speed of taking, storing and cataloguing a map, and memory of all processes.

`uv run python benchmarks/maps.py [--json] [--rate 8000] [--seconds 30]`

Two maps of 2048 float32 channels, from a simulated camera at `--rate` spectra/s, in one run:

- one of `--seconds`: rate of the plan, largest backlog, time until storage was done after the plan,
  and processor time of each process; for comparison the rates of this disk and of loopback
- one of 256 x 256 points: highest memory of each process, and number of slices that were read
  through Tiled during the map
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bluesky.preprocessors as bpp
import psutil
from bluesky.utils import MsgGenerator
from rich.console import Console
from rich.table import Table

from bluesky_em import Data, MapInfo
from bluesky_em.app.session import Session
from bluesky_em.files.ledger import Ledger
from bluesky_em.files.tiled.address import address_of
from bluesky_em.plan_stubs import fly
from bluesky_em.reference import ReferenceState

SPECTRUM_BYTES = 2048 * 4
LINE_POINTS = 400
PROBE_BYTES = 512 << 20  # for the rates of disk and loopback
POLL_INTERVAL = 0.2  # s
SEND = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
    block = bytes(1 << 20)
    for _ in range(int(sys.argv[2]) >> 20):
        connection.sendall(block)
"""


class Sampler:
    """Records the backlog, and memory and processor time of each process."""

    def __init__(self, session: Session):
        assert session.pcs is not None
        supervisor = session.storage.supervisor
        pids = {
            "RunEngine": os.getpid(), "Gatan server": session.pcs.processes["gatan"].pid,
            "writer": supervisor.pid("writer"), "Tiled": supervisor.pid("Tiled server"),
        }  # fmt: skip
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._ledger = Ledger(session.storage.layout.ledger)
        self.before = self._memory()
        self.most = dict(self.before)
        self.backlog = 0
        self._cpu = self._processor()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def close(self) -> dict[str, Any]:
        """Stop; return the highest values."""
        self._done.set()
        self._thread.join()
        self._ledger.close()
        cpu = self._processor()
        return {
            "most_waiting": self.backlog,
            "memory_before_MB": self.before,
            "memory_most_MB": self.most,
            "processor_seconds": {n: round(cpu[n] - self._cpu[n], 1) for n in cpu},
        }

    def _watch(self) -> None:
        while not self._done.wait(POLL_INTERVAL):
            self.most = {n: max(self.most[n], mb) for n, mb in self._memory().items()}
            counts = self._ledger.counts()
            self.backlog = max(
                self.backlog, counts[ReferenceState.CAPTURED] + counts[ReferenceState.STORED]
            )

    def _memory(self) -> dict[str, int]:
        return {n: p.memory_info().rss >> 20 for n, p in self._processes.items()}

    def _processor(self) -> dict[str, float]:
        return {n: sum(p.cpu_times()[:2]) for n, p in self._processes.items()}


def disk_rate(folder: Path) -> float:
    """Write plain blocks, then fsync; return MB/s."""
    block, began = os.urandom(4 << 20), time.perf_counter()
    with open(folder / "probe", "wb") as file:
        for _ in range(PROBE_BYTES // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    took = time.perf_counter() - began
    (folder / "probe").unlink()
    return PROBE_BYTES / took / 1e6


def loopback_rate() -> float:
    """Receive plain blocks from another process; return MB/s."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        sender = subprocess.Popen([sys.executable, "-c", SEND, port, str(PROBE_BYTES)])
        connection, _ = server.accept()
        buffer, began = bytearray(1 << 20), time.perf_counter()
        with connection:
            while connection.recv_into(buffer):
                pass
        took = time.perf_counter() - began
        sender.wait()
    return PROBE_BYTES / took / 1e6


def take(session: Session, shape: tuple[int, int], rate: float) -> tuple[str, float]:
    """Take a map; return the run's uid and the duration of the fly scan in s."""
    eels, times = session.devices["eels"], []

    @bpp.stage_decorator([eels])
    @bpp.run_decorator()
    def plan() -> MsgGenerator[None]:
        times.append(time.perf_counter())
        yield from fly([eels], MapInfo(shape=shape, livetime=1 / rate))
        times.append(time.perf_counter())

    (uid,) = session.RE(plan()).run_start_uids
    return uid, times[1] - times[0]


def long_map(session: Session, rate: float, seconds: float) -> dict[str, Any]:
    """Take a map at `rate` spectra/s for `seconds`."""
    lines = round(rate * seconds / LINE_POINTS)
    sampler = Sampler(session)
    uid, took = take(session, (lines, LINE_POINTS), rate)
    ended = time.perf_counter()
    session.data.wait(uid, timeout=600)
    after = time.perf_counter() - ended
    rate_of_plan = lines * LINE_POINTS / took
    return {
        "spectra": lines * LINE_POINTS, "wanted_per_s": rate, "taken_per_s": round(rate_of_plan),
        "MB_per_s": round(rate_of_plan * SPECTRUM_BYTES / 1e6, 1), "seconds": round(took, 2),
        "complete_after_s": round(after, 2), **sampler.close(),
    }  # fmt: skip


@contextmanager
def reader(session: Session) -> Iterator[dict[str, int]]:
    """Read slices of the newest map through Tiled, over HTTP, during the map."""
    address = address_of(session.storage.layout)
    assert address is not None
    seen, done = {"slices": 0, "rows": 0}, threading.Event()

    def read() -> None:
        data = Data(address.uri, api_key=address.api_key)
        while not done.wait(POLL_INTERVAL):
            try:
                run = data.catalog.values().last()
                array = run["primary/eels"]
            except (KeyError, IndexError):
                continue
            rows = array.shape[0]
            if "stop" not in run.metadata and rows:
                assert array[rows - 1].any(), "a row is visible before it has data"
                seen.update(slices=seen["slices"] + 1, rows=rows)
        data.close()

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def large_map(session: Session, rate: float) -> dict[str, Any]:
    """Take 256 x 256 points."""
    sampler = Sampler(session)
    with reader(session) as seen:
        uid, took = take(session, (256, 256), rate)
        session.data.wait(uid, timeout=600)
    array = session.data.catalog[uid]["primary/eels"]
    return {
        "shape": list(array.shape), "seconds": round(took, 2), **sampler.close(),
        "slices_read_while_it_grew": seen["slices"], "rows_of_the_last": seen["rows"],
    }  # fmt: skip


def show(result: dict[str, Any], console: Console) -> None:
    """Print the results as tables."""
    for part, figures in result.items():
        table = Table(part, "")
        for name, value in figures.items():
            table.add_row(name.replace("_", " "), str(value))
        console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rate", type=float, default=8000.0, help="spectra/s")
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    console = Console(stderr=options.json)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        raw = {
            "disk_MB_per_s": round(disk_rate(Path(folder))),
            "loopback_MB_per_s": round(loopback_rate()),
        }
        with Session(Path(folder) / "s", root=Path(__file__).parents[1]) as session:
            session.sd.baseline.clear()  # it would be timed, too
            session.data.catalog  # noqa: B018 (waits for Tiled's start)
            take(session, (4, LINE_POINTS), options.rate)  # loads all modules
            result = {
                "raw": raw,
                "long map": long_map(session, options.rate, options.seconds),
                "256 x 256 map": large_map(session, options.rate),
            }
            session.storage.close(wait=True)
    long = result["long map"]
    raw["share_of_disk"] = round(long["MB_per_s"] / raw["disk_MB_per_s"], 3)
    raw["share_of_loopback"] = round(long["MB_per_s"] / raw["loopback_MB_per_s"], 3)
    show(result, console)
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
