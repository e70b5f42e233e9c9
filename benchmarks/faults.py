"""Kill each process many times, and account for all references.

`uv run python benchmarks/faults.py --kills 1000 [--seed 1] [--folders 2] [--json]`

Real processes, killed with SIGKILL: the RunEngine's, the writer, the Tiled server, and both
acquisition servers; at random moments, and at each named step of
`bluesky_em.acquisition.instrument_pc.faults`. The plans take spectra, images and maps, among them
sums, live views and cubes. Afterwards each reference that was returned to a plan is searched in
journal, ledger, files and Tiled, and the bytes of each frame are compared with the checksum of its
exposure.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psutil
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bluesky_em import Storage
from bluesky_em.acquisition.instrument_pc import faults
from bluesky_em.app.simulated_pcs import SimulatedPCs
from bluesky_em.files import journal_reader, manifest
from bluesky_em.files.ledger import Ledger
from bluesky_em.files.tiled.address import address_of
from bluesky_em.storage import supervisor
from bluesky_em.storage.upkeep.audit import FindingKind, audit_run

RANDOM = "at random"
TILED_INTERVAL = 50  # kills; Tiled takes 10 to 15 s to start
STEP_TIMEOUT = 40.0  # s until an armed step must have been reached

ENGINE = """
import itertools, sys, time
import bluesky.plan_stubs as bps, bluesky.preprocessors as bpp
import numpy as np
from bluesky import RunEngine
from bluesky_em import MapInfo, Storage, autoscript, documents, gatan
from bluesky_em.detector import UpdateInfo
from bluesky_em.plan_stubs import fly, per_shot
from ophyd_async.core import Array1D, init_devices, soft_signal_rw

RE = RunEngine()
storage = Storage(sys.argv[1])
RE.subscribe(storage)
sys.stdin.readline()
with init_devices():
    eels = gatan.Spectrometer(sys.argv[2], path_provider=storage.path_provider)
    adf = gatan.DarkField(sys.argv[2], path_provider=storage.path_provider)
    haadf = autoscript.ScanImage(sys.argv[3], path_provider=storage.path_provider)
    trace = soft_signal_rw(Array1D[np.float64], np.arange(32.0))  # an array inside events

def print_event(name, document):
    for detector in ("eels", "haadf"):
        print(document["data"][detector], flush=True)

tracker = documents.ReferenceTracker()

def print_fly_scan(name, document):
    tracker.learn(name, document)
    for reference in tracker.handed_out(name, document):
        print(reference, flush=True)

RE.subscribe(print_event, "event")
RE.subscribe(print_fly_scan, "stream_resource")
RE.subscribe(print_fly_scan, "stream_datum")

@bpp.stage_decorator([eels, adf, haadf])
@bpp.run_decorator()
def plan():
    for _ in range(4):
        for _ in range(8):
            yield from per_shot([eels, haadf, trace])
        yield from fly([eels, adf], MapInfo(shape=(8, 32), livetime=1e-3), "map", period=0.05)

@bpp.stage_decorator([eels])
@bpp.run_decorator()
def updates(info):
    yield from fly([eels], info, period=0.05)

infos = itertools.cycle([
    UpdateInfo(number_of_events=20, livetime=0.02, mode="accumulate"),
    UpdateInfo(number_of_events=20, livetime=0.02, mode="replace", keep_versions=2),
    MapInfo(shape=(16, 32), livetime=1e-3, mode="add_slice"),
])

RE(bps.mv(eels.exposure, 0.02, haadf.size, 128, haadf.dwell, 1e-6))
while True:
    try:
        RE(updates(next(infos)))
        RE(plan())
    except Exception as exc:  # the acquisition server was killed: begin the next run
        print("failed:", type(exc).__name__, file=sys.stderr, flush=True)
        time.sleep(0.5)
"""


class Engine:
    """A RunEngine in a process of its own, and a second process that waits to replace it."""

    def __init__(self, folder: Path, uris: dict[str, str], references: set[str]):
        self._command = [
            sys.executable, "-c", ENGINE, str(folder), uris["gatan"], uris["autoscript"]
        ]  # fmt: skip
        self._references = references
        self._log = open(folder / "engine.log", "a")
        self.process = self._next = self._spawn()
        self.replace()

    def replace(self) -> None:
        """Start the plans of the waiting process, and start another waiting one."""
        self.process, dead = self._next, self.process
        if dead is not self.process:
            _reap(dead)
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        threading.Thread(target=self._read_references, args=[self.process], daemon=True).start()
        self._next = self._spawn()

    def close(self) -> None:
        for process in (self.process, self._next):
            process.kill()
            _reap(process)
        self._log.close()

    def _spawn(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
        )  # fmt: skip

    def _read_references(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            self._references.update(line.strip() for line in lines if line.endswith("\n"))


@dataclass
class Outcome:
    """The kills, and the state of all references after them."""

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    """by process and step"""
    references: int = 0
    """returned to plans"""
    catalogued: int = 0
    failed: int = 0
    """with a reason: the frame was lost with its acquisition server, or its point interrupted"""
    findings: list[str] = field(default_factory=list)
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    unfinished: int = 0
    seconds: float = 0.0


class KillTest:
    """Processes that are killed and replaced."""

    def __init__(self, folder: Path, seed: int):
        self.folder = folder
        self.random = random.Random(seed)
        self.references: set[str] = set()
        self.outcome = Outcome()
        self.steps = deque(faults.STEPS)
        self.faults = folder / "faults"
        self.faults.mkdir(parents=True)
        os.environ["BLUESKY_EM_FAULTS"] = str(self.faults)
        supervisor.BACKOFF = (0.05, 0.05)  # s; they are killed often here
        self.storage = Storage(folder)
        self.pcs = SimulatedPCs(folder).__enter__()
        self.engine = Engine(folder, self.pcs.uris, self.references)

    def kill_one(self, number: int) -> None:
        """Kill a process and replace it."""
        time.sleep(self.random.uniform(0.05, 0.4))
        if number % TILED_INTERVAL == TILED_INTERVAL // 2:
            self._kill("Tiled server", RANDOM, self._pid_of("bluesky_em.storage.tiled_server"))
        elif number % 2:
            self._kill_at(self._next_step())
        else:
            pids = {
                "engine": self.engine.process.pid,
                "writer": self._pid_of("bluesky_em.storage.writer"),
                **{f"{name} server": pc.pid for name, pc in self.pcs.processes.items()},
            }
            victim = self.random.choice(sorted(pids))
            self._kill(victim, RANDOM, pids[victim])
        self._replace_killed()

    def settle(self, timeout: float) -> None:
        """Stop the plans, and wait until all runs are complete."""
        for name in self.faults.iterdir():
            name.unlink()
        time.sleep(1.0)  # the last killed process may take a moment to end
        self._replace_killed()
        self.engine.close()
        deadline = time.monotonic() + timeout
        ledger = Ledger(self.storage.layout.ledger)
        paths = self.storage.layout.journals()
        while not all(ledger.is_complete(path.stem) for path in paths):
            if time.monotonic() > deadline:
                break
            time.sleep(0.5)
        ledger.close()

    def account(self) -> Outcome:
        """Search each reference in journal, ledger, files and Tiled."""
        outcome, ledger = self.outcome, Ledger(self.storage.layout.ledger)
        returned = set(self.references)
        found: Counter[FindingKind] = Counter()
        for path in self.storage.layout.journals():
            entries = ledger.frames(path.stem)
            returned.difference_update(*(entry.frame.references for entry in entries))
            stages = manifest.count_stages(entries)
            outcome.catalogued += stages.get("catalogued", 0)
            outcome.failed += stages.get("failed", 0)
            if not journal_reader.read(path):
                continue  # killed before its start document was complete
            catalog = self.storage.data.catalog
            for finding in audit_run(self.storage.layout, ledger, path.stem, catalog):
                found[finding.kind] += 1
                outcome.findings.append(str(finding))
        outcome.findings += [f"lost: {reference} is nowhere" for reference in sorted(returned)]
        outcome.references = len(self.references)
        outcome.lost = found[FindingKind.LOST] + len(returned)
        outcome.doubled = found[FindingKind.DOUBLED]
        outcome.wrong = found[FindingKind.WRONG]
        outcome.unfinished = found[FindingKind.UNFINISHED]
        ledger.close()
        return outcome

    def close(self) -> None:
        self.engine.close()
        self.pcs.close()
        self.storage.close()
        del os.environ["BLUESKY_EM_FAULTS"]

    def _pid_of(self, module: str) -> int | None:
        """Return a process of the folder; any process with a Storage may have started it."""
        for process in psutil.process_iter(["cmdline"]):
            command = process.info["cmdline"] or []
            if module in command and str(self.folder) in command:
                return process.pid
        return None

    def _kill(self, name: str, step: str, pid: int | None) -> None:
        if pid is None:
            return  # it has ended, and is not replaced yet
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.outcome.kills[name, step] += 1

    def _next_step(self) -> str:
        """Return the steps in turn; the feed reaches its steps only while Tiled runs."""
        self.steps.rotate(-1)
        while self.steps[0].startswith("feed") and address_of(self.storage.layout) is None:
            self.steps.rotate(-1)
        return self.steps[0]

    def _kill_at(self, step: str) -> None:
        faults.arm(str(self.faults), step)
        armed = Path(faults.path(str(self.faults), step))
        deadline = time.monotonic() + STEP_TIMEOUT
        while armed.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
            self._replace_killed()
        if not armed.exists():
            name = {"server": "either server", "feed": "writer"}.get(step.split(":")[0])
            self.outcome.kills[name or step.split(":")[0], step] += 1
        armed.unlink(missing_ok=True)

    def _replace_killed(self) -> None:
        if self.engine.process.poll() is not None:
            self.engine.replace()
        for name, process in list(self.pcs.processes.items()):
            if process.poll() is not None:
                _reap(process)
                self.pcs.start(name)


def _reap(process: subprocess.Popen[str]) -> None:
    process.wait()
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def run(kills: int, seed: int, folder: Path, console: Console, settle: float) -> Outcome:
    """Kill `kills` times, wait, and account for all references."""
    began = time.monotonic()
    test = KillTest(folder, seed)
    try:
        test.storage.data.catalog  # noqa: B018 (waits for Tiled's start)
        with Progress(console=console) as progress:
            task = progress.add_task("killing", total=kills)
            for number in count():
                test.kill_one(number)
                done = sum(test.outcome.kills.values())
                progress.update(task, completed=done)
                if done >= kills:
                    break
        console.print("Done. Waiting until storage has caught up...")
        test.settle(settle)
        outcome = test.account()
        outcome.seconds = round(time.monotonic() - began, 1)
        return outcome
    finally:
        test.close()


def run_at_once(folders: int, options: argparse.Namespace) -> Outcome:
    """Divide the kills among several storage folders, each with its own processes."""
    shares = [options.kills // folders + (n < options.kills % folders) for n in range(folders)]
    began = time.monotonic()
    children = [
        subprocess.Popen(
            [
                sys.executable, __file__, "--json", "--folders", "1", "--kills", str(share),
                "--seed", str(options.seed + number), "--settle", str(options.settle),
            ],
            stdout=subprocess.PIPE, text=True,
        )
        for number, share in enumerate(shares)
    ]  # fmt: skip
    total = Outcome()
    for child in children:
        outcome = json.loads(child.communicate()[0])
        for kill, times in outcome.pop("kills").items():
            process, _, step = kill.partition(", ")
            total.kills[process, step] += times
        for name, value in outcome.items():
            setattr(total, name, getattr(total, name) + value)
    total.seconds = round(time.monotonic() - began, 1)
    return total


def show(outcome: Outcome, console: Console) -> None:
    """Print the results as tables."""
    table = Table("process", "killed", "times")
    for (process, step), times in sorted(outcome.kills.items()):
        table.add_row(process, step, str(times))
    console.print(table)
    console.print(
        f"{sum(outcome.kills.values())} kills in {outcome.seconds:.0f} s; {outcome.references} "
        f"references: {outcome.catalogued} catalogued, {outcome.failed} failed with a "
        f"reason; {outcome.lost} lost, {outcome.doubled} doubled, {outcome.wrong} wrong, "
        f"{outcome.unfinished} runs unfinished"
    )
    for finding in outcome.findings[:20]:
        console.print(finding)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--folders", type=int, default=2, help="storage folders at once")
    parser.add_argument("--settle", type=float, default=1800, help="s to catch up at the end")
    options = parser.parse_args()
    console = Console(stderr=options.json)
    if options.folders > 1:
        outcome = run_at_once(options.folders, options)
    else:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            outcome = run(options.kills, options.seed, Path(folder) / "s", console, options.settle)
    show(outcome, console)
    if options.json:
        kills = {f"{process}, {step}": n for (process, step), n in outcome.kills.items()}
        print(json.dumps(vars(outcome) | {"kills": kills}))
    sys.exit(bool(outcome.findings))


if __name__ == "__main__":
    main()
