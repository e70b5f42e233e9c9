"""Time from a run's stop until it is complete, beside what has been damaged.

`uv run python benchmarks/good_runs.py [--good 20] [--backlog 300] [--only KIND] [--json]`

For each kind of damage: a RunEngine in another process takes runs of all kinds and is killed with
the writer; what they left is damaged; a new writer begins, and good runs are timed at once. Then,
when storage has caught up, as many are timed alone, again from the start of a new writer. Quote the
longest time of both: the aim is at most 5 s more.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import httpx
from fault_test.processes import Engine
from filelock import FileLock, Timeout
from ophyd_async.core import init_devices
from rich.console import Console
from rich.table import Table

from bluesky_em import Storage, gatan
from bluesky_em.app.session import run_engine
from bluesky_em.app.simulated_pcs import SimulatedPCs
from bluesky_em.files.ledger import Ledger
from bluesky_em.files.tiled.address import address_of
from bluesky_em.storage import supervisor

TIMEOUT = 900.0  # s
BUSY_FOR = 6.0  # s in which the other process takes runs; the writer is stopped for the last third
EXPOSURE = 0.001  # s


class Laboratory:
    """A storage folder with its processes, and a RunEngine for the good runs."""

    def __init__(self, storage: Storage, pcs: SimulatedPCs, backlog: int):
        self.storage = storage
        self.layout = storage.layout
        self.pcs = pcs
        self.backlog = backlog
        self.is_writer_new = False

    def pid(self, name: str) -> int | None:
        return self.storage.supervisor.pid(name)

    def kill(self, name: str, sign: int = signal.SIGKILL) -> None:
        if pid := self.pid(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sign)

    def leave_unfinished(self, damage: Callable[[], None]) -> None:
        """Take runs in another process, kill it and the writer, and damage what they left."""
        engine = Engine(self.layout.root, self.pcs.uris, set())
        time.sleep(BUSY_FOR * 2 / 3)
        self.kill("writer", signal.SIGSTOP)
        time.sleep(BUSY_FOR / 3)
        engine.close()
        damage()
        self.replace_writer()

    def replace_writer(self) -> None:
        """Kill the writer, and wait until there is another."""
        before = self.pid("writer")
        self.kill("writer")
        self._wait(lambda: self.pid("writer") not in (None, before))
        self.is_writer_new = True

    def wait_for_tiled(self) -> None:
        self._wait(self._does_tiled_answer)

    def _does_tiled_answer(self) -> bool:
        address = address_of(self.layout)  # that of the killed server is there for a while
        with contextlib.suppress(httpx.HTTPError):
            return address is not None and httpx.get(address.uri).is_success
        return False

    def catch_up(self) -> None:
        """Wait until all runs are complete whose journal can be read."""
        with closing(Ledger(self.layout.ledger)) as ledger:
            runs = [path.stem for path in self.layout.journals()]
            self._wait(lambda: all(map(ledger.is_complete, runs)), "Some stay unfinished.")

    @contextmanager
    def without_tiled(self) -> Iterator[None]:
        lock = FileLock(self.layout.catalog_lock, thread_local=False)
        while not lock.is_locked:
            self.kill("Tiled server")
            with contextlib.suppress(Timeout):
                lock.acquire(timeout=0.02)
        yield
        lock.release()

    def _wait(self, done: Callable[[], bool], otherwise: str = "") -> None:
        deadline = time.monotonic() + (30.0 if otherwise else TIMEOUT)
        while not done():
            if time.monotonic() > deadline:
                if otherwise:
                    return
                raise TimeoutError
            time.sleep(0.1)


def nothing(lab: Laboratory) -> None:
    """Take the other runs, and damage nothing."""
    lab.leave_unfinished(lambda: None)


def frames_files(lab: Laboratory) -> None:
    """Cut the files of frames to half of their size, with zeros in the place of their header."""

    def damage() -> None:
        for path in lab.layout.data.rglob("*.h5"):
            with open(path, "r+b") as file:
                file.write(bytes(4096))
                file.truncate(path.stat().st_size // 2)

    lab.leave_unfinished(damage)


def journals(lab: Laboratory) -> None:
    """Change a byte in the middle of each journal."""
    lab.leave_unfinished(lambda: [_flip(path) for path in lab.layout.journals()] and None)


def frames_in_spools(lab: Laboratory) -> None:
    """Change a byte of each frame that waits in a spool."""

    def damage() -> None:
        for path in lab.layout.root.glob("*-pc/spool/**/*"):
            if path.is_file():
                _flip(path)

    lab.leave_unfinished(damage)


def manifests(lab: Laboratory) -> None:
    """Empty each manifest, and each master file."""

    def damage() -> None:
        for pattern in ("*.json", "*.nxs"):
            for path in lab.layout.data.rglob(pattern):
                path.write_bytes(b"")

    lab.leave_unfinished(damage)


def deleted_catalog(lab: Laboratory) -> None:
    """Delete the catalog, which is filled again."""
    with lab.without_tiled():
        for path in lab.layout.catalog.iterdir():
            if path != lab.layout.catalog_lock:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    lab.wait_for_tiled()


def backlog(lab: Laboratory) -> None:
    """Take many short runs while Tiled is away."""
    with lab.without_tiled():
        engine = Engine(lab.layout.root, lab.pcs.uris, set())
        engine.take_short_runs(lab.backlog)
        engine.close()
    lab.wait_for_tiled()


KINDS = [
    nothing, frames_files, journals, frames_in_spools, manifests, deleted_catalog, backlog,
]  # fmt: skip


def _flip(path: Path) -> None:
    with open(path, "r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        if byte:
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 0xFF]))


def measure(kind: Callable[[Laboratory], None], good: int, backlog: int) -> tuple[float, float]:
    """Return the longest time from stop to complete, beside a kind of damage, and alone."""
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        SimulatedPCs(folder, latency=False) as pcs,
        Storage(folder) as storage,
        run_engine() as engine,
    ):
        engine.subscribe(storage)
        with init_devices():
            eels = gatan.Spectrometer(pcs.uris["gatan"], path_provider=storage.path_provider)

        def longest() -> float:
            seconds = 0.0
            for _ in range(good):
                uid = engine(bp.count([eels])).run_start_uids[0]
                began = time.monotonic()
                storage.data.wait(uid, timeout=TIMEOUT)
                seconds = max(seconds, time.monotonic() - began)
            return seconds

        assert storage.data.catalog is not None  # waits for Tiled's start
        engine(bps.mv(eels.exposure, EXPOSURE))
        longest()  # imports, and Tiled's first answers
        lab = Laboratory(storage, pcs, backlog)
        kind(lab)
        beside = longest()
        lab.catch_up()
        if lab.is_writer_new:
            lab.replace_writer()
        return beside, longest()


def main() -> None:
    """Measure all kinds, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--good", type=int, default=20, help="number of runs that are timed")
    parser.add_argument("--backlog", type=int, default=300, help="runs taken while Tiled is away")
    parser.add_argument("--only", choices=[kind.__name__ for kind in KINDS])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    supervisor.BACKOFF = (0.05, 0.05)  # s
    table = Table("beside", "longest [s]", "alone [s]", "more [s]")
    results = {}
    for kind in KINDS:
        if options.only in (None, kind.__name__):
            beside, alone = measure(kind, options.good, options.backlog)
            results[kind.__name__] = {"beside": beside, "alone": alone}
            table.add_row(
                kind.__name__.replace("_", " "),
                f"{beside:.2f}", f"{alone:.2f}", f"{beside - alone:+.2f}",
            )  # fmt: skip
    Console(stderr=options.json).print(table)
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
