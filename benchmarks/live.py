"""Delay until a follower has a point, and cost of followers for the plan.

`uv run python benchmarks/live.py [--json] [--events 200] [--rounds 5]`

One run, two parts:

- latency: spectra at 20 Hz, followed by a process that has only the Tiled address and by one that
  has the storage folder; from the event, and from the time at which its frame was stored, until the
  follower has the point. For comparison Tiled's plain subscription behind a
  `TiledWriter(batch_size=1)`, with the same server and rate, and blissdata on Redis, if they are
  installed (see `peers.py`).
- cost: the same plan without followers (before and after) and with 20 followers over HTTP, each a
  process, one of which stops after one point; at 20 Hz, and with 10 ms exposures without a pause.
  The followers run on this machine, too, with low priority as `bluesky-em follow` does.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import peers
from rich.console import Console
from rich.table import Table

from bluesky_em import Data
from bluesky_em.app.session import Session
from bluesky_em.files.ledger import Ledger
from bluesky_em.files.tiled.address import TiledAddress, address_of
from bluesky_em.storage import processes

RATE = 20.0  # Hz
OVERHEAD = 0.003  # s of an event beside its exposure
FOLLOWERS = 20
PACES = {"20 Hz": 1 / RATE - OVERHEAD, "without a pause": 0.01}  # exposure in s, by name


def main() -> None:
    options = _options()
    if options.follow:
        follow(options.follow, options.key, options.stuck)
        return
    console = Console(stderr=options.json)
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        Session(Path(folder) / "storage") as session,
    ):
        session.sd.baseline.clear()  # it would be timed, too
        console.print("Waiting for Tiled (10-15 s)...")
        assert session.data.catalog is not None
        address = address_of(session.storage.layout)
        assert address is not None
        session.acquire_eels(0.01)
        session.storage.flush()
        results: dict[str, Any] = {"events": options.events, "rate_hz": RATE}
        results |= latency(session, address, options.events, console)
        results |= cost(session, address, options.events, options.rounds, console)
    if options.json:
        print(json.dumps(results))
    else:
        show(results, console)


def follow(place: str, key: str, stuck: bool) -> None:
    """Follow new runs; print the delay of each point as JSON lines."""
    processes.lower_priority()
    data = Data(place, api_key=key) if key else Data(storage=place)
    runs = data.follow()
    print("ready", flush=True)
    for run in runs:
        for point in run:
            now = time.time()
            found = {"run": run.run, "after_event": now - point.time}
            print(json.dumps({**found, **point.references, "at": now}), flush=True)
            if stuck:
                time.sleep(3600)
        print(json.dumps({"run": run.run, "end": run.end and run.end.status}), flush=True)


class Follower:
    """A follower in a process of its own."""

    def __init__(self, place: str, key: str = "", *, stuck: bool = False):
        arguments = ["--follow", place, "--key", key, *(["--stuck"] if stuck else [])]
        self.process = subprocess.Popen(
            [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True
        )

    def wait_until_ready(self) -> None:
        assert self.process.stdout is not None and self.process.stdout.readline() == "ready\n"

    def points(self) -> list[dict[str, Any]]:
        """Return the points of the next run when it has ended."""
        points: list[dict[str, Any]] = []
        assert self.process.stdout is not None
        while "end" not in (line := json.loads(self.process.stdout.readline())):
            points.append(line)
        return points

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_: Any) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def latency(
    session: Session, address: TiledAddress, events: int, console: Console
) -> dict[str, Any]:
    """Measure the delay of followers of this package and of others."""
    folder = str(session.storage.layout.root)
    places = {"http": Follower(address.uri, address.api_key), "folder": Follower(folder)}
    ledger = Ledger(session.storage.layout.ledger)
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        for follower in places.values():
            stack.enter_context(follower).wait_until_ready()
        console.print(f"{events} spectra at {RATE:g} Hz")
        _run(session, events, 1 / RATE - OVERHEAD)
        for name, follower in places.items():
            points = follower.points()
            assert len(points) == events, f"{name} has {len(points)} of {events} points"
            stored = [entry.stored_at for p in points if (entry := ledger.find(p["eels"]))]
            since = [p["at"] - moment for p, moment in zip(points, stored, strict=True) if moment]
            found[f"{name}: event to follower"] = _ms([p["after_event"] for p in points])
            found[f"{name}: stored to follower"] = _ms(since)
    ledger.close()
    console.print("Tiled's plain subscription, and blissdata")
    plain = peers.tiled_subscription_latency(address.uri, address.writer_key, events, RATE)
    found["plain Tiled subscription"] = _ms(plain)
    try:
        found["blissdata on Redis"] = _ms(peers.blissdata_latency(events, RATE))
    except peers.NotInstalled as exc:
        console.print(f"blissdata is left out: {exc}")
    return {"latency_ms": found}


def cost(
    session: Session, address: TiledAddress, events: int, rounds: int, console: Console
) -> dict[str, Any]:
    """Time the same plan without and with followers."""
    seconds: dict[str, dict[str, list[float]]] = {
        pace: {"none": [], "followed": []} for pace in PACES
    }

    def alone() -> None:
        console.print(f"{rounds} rounds without followers")
        for _ in range(rounds):
            for pace, exposure in PACES.items():
                seconds[pace]["none"].append(_run(session, events, exposure))
                session.storage.flush()

    alone()
    with ExitStack() as stack:
        followers = [
            stack.enter_context(Follower(address.uri, address.api_key, stuck=number == 0))
            for number in range(FOLLOWERS)
        ]
        for follower in followers:
            follower.wait_until_ready()
        console.print(f"{rounds} rounds with {FOLLOWERS} followers")
        for _ in range(rounds):
            for pace, exposure in PACES.items():
                seconds[pace]["followed"].append(_run(session, events, exposure))
                for follower in followers[1:]:
                    assert len(follower.points()) == events, "a follower has missed points"
    alone()  # before and after: the load of the machine may change
    ratios = {
        pace: round(statistics.median(each["followed"]) / statistics.median(each["none"]), 3)
        for pace, each in seconds.items()
    }
    return {"followers": FOLLOWERS, "plan_seconds": seconds, "plan_time_over_none": ratios}


def show(results: dict[str, Any], console: Console) -> None:
    """Print the results as tables."""
    table = Table("ms", "p50", "p95", "most")
    for name, values in results["latency_ms"].items():
        table.add_row(name, *(f"{values[q]:.0f}" for q in ("p50", "p95", "max")))
    console.print(table)
    for name, value in results.items():
        if name not in ("latency_ms", "plan_seconds"):
            console.print(f"{name}: {value}")


def _run(session: Session, events: int, exposure: float) -> float:
    plan = session.plans["spectrum"](session.devices["eels"], exposure=exposure, num=events)
    began = time.perf_counter()
    session.RE(plan)
    return time.perf_counter() - began


def _ms(seconds: list[float]) -> dict[str, float]:
    quantiles = {f"p{q}": round(1e3 * float(np.percentile(seconds, q)), 1) for q in (50, 95)}
    return {**quantiles, "max": round(1e3 * max(seconds), 1)}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--events", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--follow", default="", help=argparse.SUPPRESS)
    parser.add_argument("--key", default="", help=argparse.SUPPRESS)
    parser.add_argument("--stuck", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
