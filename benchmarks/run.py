"""Cost of storage for a plan, and delay until a spectrum can be read through Tiled.

`uv run python benchmarks/run.py [--json] [--events 100] [--rounds 5]`

All cases use the same plan, acquisition server and Tiled server, in turn, in one run; quote the
ratios. All cases but the first two register the same documents in Tiled themselves:

- none: no subscriber
- storage: bluesky-em's Storage
- tiled_writer: `TiledWriter(batch_size=1)`, subscribed directly
- buffered: the same inside bluesky's `BufferingWrapper` (the time to empty it is measured apart)
- synchronous: fetch, write a file, register it, then return: the most common way
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from bluesky.callbacks.buffer import BufferingWrapper
from bluesky_tiled_plugins import TiledWriter
from rich.console import Console
from rich.table import Table
from tiled.client import from_uri
from tiled.structures.array import ArrayStructure
from tiled.structures.data_source import Asset, DataSource, Management

from bluesky_em.acquisition.client import SpoolClient
from bluesky_em.acquisition.instrument_pc.protocol import MAX_FETCH
from bluesky_em.app.session import Session
from bluesky_em.files.ledger import Ledger
from bluesky_em.files.tiled.address import address_of

EXPOSURE = 0.01  # s


class TimedStorage:
    """Storage as a subscriber; the time of each call is measured."""

    def __init__(self, storage: Any, eels: Any):
        self.storage, self.eels = storage, eels
        self.documents: list[float] = []
        self.latencies: list[float] = []

    def __call__(self, name: str, document: dict[str, Any]) -> None:
        began = time.perf_counter()
        self.storage(name, document)
        self.documents.append(time.perf_counter() - began)
        if name == "event" and self.eels is not None:
            self.latencies.append(self.eels.latency)


class SaveThenRegister:
    """Fetch each frame, write it to a file, register it with Tiled, then return."""

    def __init__(self, client: Any, uri: str, folder: Path):
        self.spool, self.client, self.folder = SpoolClient(uri), client, folder
        self.node: Any = None

    def __call__(self, name: str, document: dict[str, Any]) -> None:
        if name == "start":
            self.spool = SpoolClient(self.spool.uri)  # one belongs to one thread
            self.node = self.client.create_container(key=document["uid"])
        elif name == "event":
            reference = document["data"]["eels"]
            data = np.frombuffer(self.spool.fetch(reference, 0, MAX_FETCH), dtype="<f4")
            path = self.folder / f"{uuid.uuid4()}.h5"
            with h5py.File(path, "w") as file:
                file["data"] = data
            structure = ArrayStructure.from_array(data)
            self.node.new(
                structure_family="array",
                data_sources=[
                    DataSource(
                        structure_family="array",
                        structure=structure,
                        mimetype="application/x-hdf5",
                        parameters={"dataset": "data"},
                        management=Management.external,
                        assets=[
                            Asset(
                                data_uri=path.as_uri(), is_directory=False,
                                parameter="data_uris", num=0,
                            )
                        ],
                    )
                ],
                key=str(document["seq_num"]),
            )  # fmt: skip


def main() -> None:
    options = _options()
    console = Console(stderr=options.json)
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        Session(Path(folder) / "storage") as session,
    ):
        session.sd.baseline.clear()  # it would be timed, too
        console.print("Waiting for Tiled (10-15 s)...")
        address = _tiled(session)
        client = from_uri(address.uri, api_key=address.writer_key)
        results = measure(session, client, options.events, options.rounds, console)
        results |= latency(session, options.events)
    if options.json:
        print(json.dumps(results))
    else:
        show(results, console)


def measure(
    session: Session, client: Any, events: int, rounds: int, console: Console
) -> dict[str, Any]:
    """Time the plan with each subscriber in turn; return medians over the rounds."""
    eels = session.devices["eels"]
    timed = TimedStorage(session.storage, eels)
    files = session.storage.layout.data / "synchronous"
    files.mkdir(parents=True)
    writer = TiledWriter(client, batch_size=1)
    cases: dict[str, Callable[[], Any]] = {
        "none": lambda: None,
        "storage": lambda: timed,
        "tiled_writer": lambda: writer,
        "buffered": lambda: BufferingWrapper(TiledWriter(client, batch_size=1)),
        "synchronous": lambda: SaveThenRegister(client, eels.uri, files),
    }
    slow = {"tiled_writer", "buffered", "synchronous"}
    session.RE.unsubscribe(session.token)
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    drains: list[float] = []
    for subscriber in (None, TimedStorage(session.storage, None)):
        _once(session, subscriber, events // 4)  # warm up
    session.storage.flush()
    _empty_spool(session)
    for number in range(rounds):
        for name, make in cases.items():
            if name in slow and number:
                continue  # one round takes minutes, and is enough
            console.print(f"round {number + 1}: {name}")
            subscriber = make()
            seconds[name].append(_once(session, subscriber, events))
            if name == "buffered":
                began = time.perf_counter()
                subscriber.shutdown()
                drains.append(time.perf_counter() - began)
            elif name == "storage":
                session.storage.flush()
            _empty_spool(session)
    per_event = {name: 1e3 * statistics.median(s) / events for name, s in seconds.items()}
    pairs = [s / n for s, n in zip(seconds["storage"], seconds["none"], strict=True)]
    return {
        "events": events,
        "rounds": rounds,
        "exposure_ms": 1e3 * EXPOSURE,
        "ms_per_event": {name: round(value, 3) for name, value in per_event.items()},
        "ratio_to_none": {n: round(v / per_event["none"], 3) for n, v in per_event.items()},
        "storage_ratio_per_round": [round(pair, 3) for pair in pairs],
        "buffered_drain_s": round(statistics.median(drains), 2),
        "callback_us": _percentiles(timed.documents, 1e6),
        "reference_latency_ms": _percentiles(timed.latencies, 1e3),
    }


def latency(session: Session, events: int) -> dict[str, Any]:
    """Take 10 spectra/s; return the times until they were readable through Tiled."""
    session.token = session.RE.subscribe(session.storage)
    eels = session.devices["eels"]
    with_storage = session.RE(
        session.plans["spectrum"](eels, exposure=0.1 - 0.002, num=events)
    ).plan_result  # type: ignore
    session.storage.flush()
    ledger = Ledger(session.storage.layout.ledger)
    entries = [ledger.find(reference) for reference in with_storage]
    ledger.close()
    readable = [e.catalogued_at - e.frame.ended for e in entries if e and e.catalogued_at]
    stored = [e.stored_at - e.frame.ended for e in entries if e and e.stored_at]
    return {
        "readable_through_tiled_s": _percentiles(readable, 1.0),
        "stored_s": _percentiles(stored, 1.0),
    }


@contextlib.contextmanager
def one_run(session: Session) -> Iterator[None]:
    """Open a run for the detectors, as Storage does where it is subscribed."""
    paths, run = session.storage.path_provider, str(uuid.uuid4())
    paths.opened(run, time.time())
    yield
    paths.closed(run)


def show(results: dict[str, Any], console: Console) -> None:
    """Print the results as tables."""
    table = Table("subscriber", "ms/event", "x none")
    for name, value in results["ms_per_event"].items():
        table.add_row(name, f"{value:.2f}", f"{results['ratio_to_none'][name]:.3f}")
    console.print(table)
    for name, value in results.items():
        if name not in ("ms_per_event", "ratio_to_none"):
            console.print(f"{name}: {value}")


def _once(session: Session, subscriber: Any, events: int) -> float:
    token = session.RE.subscribe(subscriber) if subscriber else None
    plan = session.plans["spectrum"](session.devices["eels"], exposure=EXPOSURE, num=events)
    alone = contextlib.nullcontext() if isinstance(subscriber, TimedStorage) else one_run(session)
    with alone:
        began = time.perf_counter()
        session.RE(plan)
        took = time.perf_counter() - began
    if token is not None:
        session.RE.unsubscribe(token)
    return took


def _empty_spool(session: Session) -> None:
    assert session.pcs is not None
    spool = SpoolClient(session.pcs.uris["gatan"])
    spool.release(spool.references())
    spool.close()


def _tiled(session: Session) -> Any:
    while (address := address_of(session.storage.layout)) is None:
        time.sleep(0.1)
    return address


def _percentiles(values: list[float], scale: float) -> dict[str, float]:
    return {f"p{q}": round(scale * float(np.percentile(values, q)), 3) for q in (50, 95, 99)}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
