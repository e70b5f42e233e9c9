"""Cost of an outage for a plan, and speed of catching up after it.

`uv run python benchmarks/outages.py [--json] [--events 100] [--rounds 3] [--seconds 120]`

Two measurements, each in one run; quote the ratios:

- plan time with the writer dead, with Tiled dead, and with a slow disk (each fsync of any process
  takes 0.1 s more), over the run without an outage just before; for comparison `TiledWriter`,
  subscribed directly, under the same outages
- 50 spectra/s through an outage of `--seconds`, first of the writer, then of Tiled: the speed at
  which the backlog is reduced while the plan continues, and the memory of each process
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import psutil
from bluesky_tiled_plugins import TiledWriter
from rich.console import Console
from rich.table import Table
from run import one_run
from tiled.client import from_uri

from bluesky_em.app.session import Session
from bluesky_em.files.ledger import Ledger
from bluesky_em.files.tiled.address import address_of
from bluesky_em.plan_stubs import per_shot
from bluesky_em.reference import ReferenceState

EXPOSURE = 0.01  # s, in the timed plans
EXPOSURE_AT_50_HZ = 0.0165  # s, for about 50 spectra/s
RESTART_DELAY = 1e9  # s, longer than any outage
SLOW_FSYNC = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static int slowly(const char *name, int file) {
    const char *sign = getenv("SLOW_DISK");
    if (sign && access(sign, F_OK) == 0) usleep(100000);
    return ((int (*)(int)) dlsym(RTLD_NEXT, name))(file);
}
int fsync(int file) { return slowly("fsync", file); }
int fdatasync(int file) { return slowly("fdatasync", file); }
"""
"""An fsync that takes 0.1 s more while the file named by SLOW_DISK exists. It is loaded between all
processes and the C library, since no device here can be made slow."""


@contextlib.contextmanager
def dead(session: Session, victim: str) -> Iterator[None]:
    """Kill a process of storage; it is started again after the block."""
    child = session.storage.supervisor._children[victim]
    os.kill(child.pid or 0, signal.SIGKILL)
    while child.pid is not None:
        time.sleep(0.01)
    child._start_at = time.monotonic() + RESTART_DELAY
    try:
        yield
    finally:
        child._start_at = 0.0


def restart_with_slow_fsync(folder: Path) -> None:
    """Compile `SLOW_FSYNC` and run this program again with it."""
    source, library = folder / "slow.c", folder / "slow.so"
    source.write_text(SLOW_FSYNC)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    environment = {"LD_PRELOAD": str(library), "SLOW_DISK": str(folder / "slow")}
    command = [sys.executable, *sys.argv]
    sys.exit(subprocess.run(command, env={**os.environ, **environment}).returncode)


@contextlib.contextmanager
def slow_disk(session: Session) -> Iterator[None]:
    """Slow down each fsync of any process by 0.1 s."""
    sign = Path(os.environ["SLOW_DISK"])
    sign.touch()
    try:
        yield
    finally:
        sign.unlink()


def sync_time(folder: Path) -> float:
    """Return the time in s of an fsync after a small write, median of 20."""
    times = []
    with open(folder / "probe", "wb", buffering=0) as file:
        for _ in range(20):
            began = time.perf_counter()
            file.write(bytes(4096))
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def timed(session: Session, events: int) -> float:
    """Return the duration of a plan in s."""
    plan = session.plans["spectrum"](session.devices["eels"], exposure=EXPOSURE, num=events)
    began = time.perf_counter()
    session.RE(plan)
    return time.perf_counter() - began


def plan_time(session: Session, events: int, rounds: int, console: Console) -> dict[str, Any]:
    """Time plans in each outage, relative to the plan before; return medians of the rounds."""
    outages: dict[str, Callable[[], Any]] = {
        "slow disk": lambda: slow_disk(session),
        "writer dead": lambda: dead(session, "writer"),
        "Tiled dead": lambda: dead(session, "Tiled server"),
    }
    timed(session, events)
    session.storage.flush()
    ratios: dict[str, list[float]] = {name: [] for name in outages}
    synced = {"healthy": sync_time(session.storage.layout.root)}
    for number in range(rounds):
        for name, outage in outages.items():
            console.print(f"round {number + 1}: {name}")
            healthy = timed(session, events)
            session.storage.flush(120)
            with outage():
                ratios[name].append(timed(session, events) / healthy)
                if name == "slow disk":
                    synced[name] = sync_time(session.storage.layout.root)
            session.storage.flush(120)
    return {
        "ratio_to_healthy": {n: round(statistics.median(r), 3) for n, r in ratios.items()},
        "ratios": {name: [round(r, 3) for r in each] for name, each in ratios.items()},
        "fsync_ms": {name: round(1e3 * value, 2) for name, value in synced.items()},
    }


def tiled_writer_time(session: Session, events: int, console: Console) -> dict[str, Any]:
    """Time the same plan with `TiledWriter` subscribed directly, Tiled killed after a third."""
    address = address_of(session.storage.layout)
    assert address is not None
    writer = TiledWriter(from_uri(address.uri, api_key=address.writer_key), batch_size=1)
    session.RE.unsubscribe(session.token)
    token = session.RE.subscribe(writer)

    def kill(name: str, document: dict[str, Any]) -> None:
        if name == "event" and document["seq_num"] == events // 3:
            stack.enter_context(dead(session, "Tiled server"))

    def once() -> float:
        with one_run(session):
            return timed(session, events)

    console.print("TiledWriter, healthy")
    healthy = once()
    console.print("TiledWriter, slow disk")
    with slow_disk(session):
        slow = once()
    console.print("TiledWriter, Tiled killed (a minute or more)")
    failure = ""
    with contextlib.ExitStack() as stack:
        watching = session.RE.subscribe(kill)
        began = time.perf_counter()
        try:
            once()
        except Exception as exc:  # the plan's author receives it
            failure = repr(exc)
        killed = time.perf_counter() - began
        session.RE.unsubscribe(watching)
    session.RE.unsubscribe(token)
    session.token = session.RE.subscribe(session.storage)
    return {
        "ratio_to_healthy": {
            "slow disk": round(slow / healthy, 3), "Tiled dead": round(killed / healthy, 1)
        },
        "plan_failed_with": failure,
    }  # fmt: skip


class Sampler:
    """Records once per second the ledger's counts, and the memory of each process."""

    def __init__(self, session: Session):
        self.session = session
        self.ledger = Ledger(session.storage.layout.ledger)
        self.memory: dict[str, list[float]] = {}
        self.catalogued: list[tuple[float, int]] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()

    def backlog(self) -> int:
        """Return the number of spectra that are not catalogued yet."""
        done = self.ledger.counts()
        return (
            len(self.session.storage.references)
            - done[ReferenceState.CATALOGUED]
            - done[ReferenceState.FAILED]
        )

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()
        self.ledger.close()

    def _sample(self) -> None:
        supervisor, pcs = self.session.storage.supervisor, self.session.pcs
        assert pcs is not None
        while not self._stopping.wait(1.0):
            pids = {name: supervisor.pid(name) for name in ("writer", "Tiled server")}
            pids |= {name: process.pid for name, process in pcs.processes.items()}
            pids["RunEngine"] = os.getpid()
            for name, pid in pids.items():
                with contextlib.suppress(psutil.NoSuchProcess, TypeError):
                    size = psutil.Process(pid).memory_info().rss / 1e6 if pid else 0.0
                    self.memory.setdefault(name, []).append(size)
            now = time.monotonic()
            self.catalogued.append((now, self.ledger.counts()[ReferenceState.CATALOGUED]))


def catch_up(session: Session, victim: str, seconds: float, console: Console) -> dict[str, Any]:
    """Take 50 spectra/s through an outage, and until the backlog is gone; return its figures."""
    eels, sampler = session.devices["eels"], Sampler(session)
    enough = threading.Event()
    result: dict[str, Any] = {}

    @bpp.stage_decorator([eels])
    @bpp.run_decorator()
    def plan() -> Any:
        while not enough.is_set():
            yield from per_shot([eels])

    def script() -> None:
        time.sleep(10.0)
        before = {name: max(values) for name, values in sampler.memory.items()}
        console.print(f"{victim}: dead for {seconds:g} s")
        with dead(session, victim):
            time.sleep(seconds)
        result["backlog"] = sampler.backlog()
        level = sampler.catalogued[-1][1]
        while sampler.catalogued[-1][1] == level:
            time.sleep(0.1)
        began, first = sampler.catalogued[-2]
        while sampler.backlog() > 50:
            time.sleep(0.1)
        ended, last = sampler.catalogued[-1]
        result["seconds_to_catch_up"] = round(ended - began, 1)
        result["catch_up_rate"] = round((last - first) / (ended - began), 1)
        result["memory_mb"] = {
            name: {"before": round(before[name]), "most": round(max(sampler.memory[name]))}
            for name in before
        }
        enough.set()

    session.RE(bps.mv(eels.exposure, EXPOSURE_AT_50_HZ))
    already = len(session.storage.references)
    thread = threading.Thread(target=script)
    began = time.perf_counter()
    thread.start()
    session.RE(plan())
    taken = len(session.storage.references) - already
    result["rate"] = round(taken / (time.perf_counter() - began), 1)
    thread.join()
    sampler.close()
    session.storage.flush(120)
    result["ratio"] = round(result["catch_up_rate"] / result["rate"], 2)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=120, help="of the long outage; 0: none")
    options = parser.parse_args()
    console = Console(stderr=options.json)
    if "SLOW_DISK" not in os.environ:
        with tempfile.TemporaryDirectory() as folder:
            restart_with_slow_fsync(Path(folder))
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        Session(Path(folder) / "storage") as session,
    ):
        session.sd.baseline.clear()  # it would be timed, too
        console.print("Waiting for Tiled (10-15 s)...")
        assert session.data.catalog is not None
        results: dict[str, Any] = {
            "storage": plan_time(session, options.events, options.rounds, console),
            "tiled_writer": tiled_writer_time(session, options.events, console),
        }
        for victim in ("writer", "Tiled server") if options.seconds else ():
            outage = catch_up(session, victim, options.seconds, console)
            results[f"{victim}, {options.seconds:g} s"] = outage
    print(json.dumps(results)) if options.json else show(results, console)


def show(results: dict[str, Any], console: Console) -> None:
    """Print the results as tables."""
    for name, figures in results.items():
        table = Table("figure", "value", title=name)
        for figure, value in figures.items():
            table.add_row(figure, str(value))
        console.print(table)


if __name__ == "__main__":
    main()
