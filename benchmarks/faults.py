"""Kill each process many times, cut the power, restore catalogs, and account for all references.

`uv run python benchmarks/faults.py --kills 1000 [--seed 1] [--folders 2] [--json]`

Real processes, killed with SIGKILL: the RunEngine's, the writer, the Tiled server, an analysis, and
both acquisition servers; at random moments, and at each named step of
`bluesky_em.acquisition.instrument_pc.faults`. The plans take spectra, images and maps, among them
sums, live views and cubes, and monitor a signal; no process may have more than 256 open files.

Between the kills: power cuts of one PC or another, after which pages, sizes and names that were not
synced are on the disk or not (all files but those of SQLite and DuckDB, which sync by themselves);
a catalog that is deleted, or is an older copy; and, in the middle, many short runs without Tiled.

Afterwards each reference that was returned to a plan is searched in journal, ledger, files and
Tiled, the bytes of each frame are compared with the checksum of its exposure, and each result that
was published must be there.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import count, cycle
from pathlib import Path
from unittest import mock

import psutil
from fault_test.power import PowerCuts
from fault_test.processes import Analysis, Engine, reap
from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bluesky_em import Storage
from bluesky_em.acquisition.instrument_pc import faults
from bluesky_em.app.simulated_pcs import SimulatedPCs
from bluesky_em.files import journal_reader, manifest
from bluesky_em.files.layout import Layout
from bluesky_em.files.ledger import Ledger
from bluesky_em.files.tiled.address import address_of
from bluesky_em.storage.upkeep.audit import FindingKind, audit_run

WRITER, TILED = "bluesky_em.storage.writer", "bluesky_em.storage.tiled_server"
RANDOM = "at random"
TILED_INTERVAL = 50  # kills; Tiled takes 10 to 15 s to start
STEP_INTERVAL = 3  # kills; a step of the feed needs a new writer, which takes seconds to start
OFTEN = 5  # times that each step is reached; then RARE_STEP_INTERVAL counts
RARE_STEP_INTERVAL = 15  # kills
STEP_TIMEOUT = 40.0  # s until an armed step must have been reached
POWER_INTERVAL, RESTORE_INTERVAL = 50, 250  # kills
TILED_TIMEOUT = 120.0  # s in which it starts beside everything else


@dataclass
class Outcome:
    """The faults, and the state of all references after them."""

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    """by process and step"""
    power_cuts: int = 0
    catalog_restores: int = 0
    runs_without_tiled: int = 0
    references: int = 0
    """returned to plans"""
    catalogued: int = 0
    failed: int = 0
    """with a reason: the frame was lost with its acquisition server, or its point interrupted"""
    published: int = 0
    """results of the analysis"""
    findings: list[str] = field(default_factory=list)
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    unfinished: int = 0
    seconds: float = 0.0


class FaultTest:
    """Processes that are killed and replaced, and computers whose power fails."""

    def __init__(self, top: Path, seed: int):
        self.folder = top / "s"
        self.layout = Layout.of(self.folder)
        self.random = random.Random(seed)
        self.references: set[str] = set()
        self.published: set[str] = set()
        self.outcome = Outcome()
        self.tried, self.reached = Counter[str](), Counter[str]()
        self.faults = top / "faults"
        self.faults.mkdir(parents=True)
        self.power = PowerCuts(self.folder, top / "copies", self.random)
        self.victims = cycle(["control", "gatan", "autoscript"])
        self.turns = count()
        self.copy = top / "catalog-copy"
        self._environment = mock.patch.dict(
            os.environ, {"BLUESKY_EM_FAULTS": str(self.faults), **self.power.environment}
        )
        self._environment.start()
        self.pcs = SimulatedPCs(self.folder).__enter__()
        self.engine = Engine(self.folder, self.pcs.uris, self.references)
        self.analysis = Analysis(self.folder, self.published)
        self.wait_for_tiled()

    def kill_one(self, number: int) -> None:
        """Kill a process and replace it."""
        time.sleep(self.random.uniform(0.05, 0.4))
        if number % TILED_INTERVAL == TILED_INTERVAL // 2:
            self._kill("Tiled server", RANDOM, self._pid_of(TILED))
        elif number % self._step_interval == 1:
            self._kill_at(self._next_step())
        else:
            pids = {
                "engine": self.engine.process.pid,
                "writer": self._pid_of(WRITER),
                "analysis": self.analysis.process.pid,
                **{f"{name} server": pc.pid for name, pc in self.pcs.processes.items()},
            }
            victim = sorted(pids)[next(self.turns) % len(pids)]
            self._kill(victim, RANDOM, pids[victim])
        self._replace_killed()

    @property
    def _step_interval(self) -> int:
        is_reached_often = all(self.reached[step] >= OFTEN for step in faults.STEPS)
        return RARE_STEP_INTERVAL if is_reached_often else STEP_INTERVAL

    def cut_power(self) -> None:
        """Cut the power of the control PC, or of an instrument PC, in turn."""
        victim = next(self.victims)
        if victim == "control":
            self._kill_control_pc()
            self.power.cut([self.layout.journal, self.layout.data])
            shutil.rmtree(self.copy, ignore_errors=True)
            shutil.copytree(self.layout.catalog, self.copy)
            self.engine = Engine(self.folder, self.pcs.uris, self.references)
        else:
            self.pcs.kill(victim)
            self.power.cut([self.folder / f"{victim}-pc" / "spool"])
            self.pcs.start(victim)
        self.outcome.power_cuts += 1

    def restore_catalog(self) -> None:
        """Replace the catalog by an older copy, or delete it, in turn."""
        self._kill_control_pc()
        shutil.rmtree(self.layout.catalog)
        if self.outcome.catalog_restores % 2 == 0 and self.copy.exists():
            shutil.copytree(self.copy, self.layout.catalog)
        self.outcome.catalog_restores += 1
        self.engine = Engine(self.folder, self.pcs.uris, self.references)
        self.wait_for_tiled()

    def run_without_tiled(self, runs: int) -> None:
        """Take many short runs while Tiled is away: its lock is held, so that none is started."""
        lock = FileLock(self.layout.catalog_lock, thread_local=False)
        while not lock.is_locked:
            self._kill("Tiled server", RANDOM, self._pid_of(TILED))
            with contextlib.suppress(Timeout):
                lock.acquire(timeout=0.02)
        with lock:
            lock.release()  # acquired twice
            self.engine.take_short_runs(runs)
        self.outcome.runs_without_tiled += runs

    def settle(self, timeout: float) -> None:
        """Stop the plans, and wait until all runs are complete."""
        for name in self.faults.iterdir():
            name.unlink()
        time.sleep(1.0)  # the last killed process may take a moment to end
        self._replace_killed()
        self.engine.close()
        self.storage = Storage(self.folder)
        deadline = time.monotonic() + timeout
        ledger = Ledger(self.layout.ledger)
        paths = self.layout.journals()
        while not all(ledger.is_complete(path.stem) for path in paths):
            if time.monotonic() > deadline:
                break
            time.sleep(0.5)
        ledger.close()
        self.analysis.close()

    def wait_for_tiled(self) -> None:
        """Wait until the Tiled server of this moment answers."""
        deadline = time.monotonic() + TILED_TIMEOUT
        while address_of(self.layout) is None or self._pid_of(TILED) is None:
            assert time.monotonic() < deadline, "Tiled does not start"
            time.sleep(0.1)

    def account(self) -> Outcome:
        """Search each reference in journal, ledger, files and Tiled."""
        outcome, ledger = self.outcome, Ledger(self.layout.ledger)
        returned = set(self.references)
        found: Counter[FindingKind] = Counter()
        for path in self.layout.journals():
            entries = ledger.frames(path.stem)
            returned.difference_update(*(entry.frame.references for entry in entries))
            stages = manifest.count_stages(entries)
            outcome.catalogued += stages.get("catalogued", 0)
            outcome.failed += stages.get("failed", 0)
            if not journal_reader.read(path):
                continue  # killed before its start document was complete
            catalog = self.storage.data.catalog
            for finding in audit_run(self.layout, ledger, path.stem, catalog):
                found[finding.kind] += 1
                outcome.findings.append(str(finding))
        outcome.findings += [f"lost: {reference} is nowhere" for reference in sorted(returned)]
        gone = self._lost_results()
        outcome.findings += [f"lost: the result of {reference}" for reference in gone]
        outcome.published = len(self.published)
        outcome.references = len(self.references)
        outcome.lost = found[FindingKind.LOST] + len(returned) + len(gone)
        outcome.doubled = found[FindingKind.DOUBLED]
        outcome.wrong = found[FindingKind.WRONG]
        outcome.unfinished = found[FindingKind.UNFINISHED]
        ledger.close()
        return outcome

    def close(self) -> None:
        self.engine.close()
        self.analysis.close()
        self.pcs.close()
        if hasattr(self, "storage"):
            self.storage.close()
        self._environment.stop()

    def _lost_results(self) -> list[str]:
        """Return the references whose published results are not in the folder."""
        there = "".join(path.read_text() for path in self.layout.results.glob("*.jsonl"))
        return sorted(each for each in self.published if json.dumps(each) not in there)

    def _kill_control_pc(self) -> None:
        """Kill the RunEngine, which would start the others again, then the others."""
        self.engine.close()
        for module in (WRITER, TILED):
            while (pid := self._pid_of(module)) is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.02)

    def _pid_of(self, module: str) -> int | None:
        """Return a process of the folder; any process with a Storage may have started it."""
        for process in psutil.process_iter(["cmdline"]):
            command = process.info["cmdline"] or []
            if module in command and str(self.folder) in command:
                if process.status() != psutil.STATUS_ZOMBIE:
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
        """Return the step that was reached and tried least; the feed's need Tiled."""
        no_tiled = address_of(self.layout) is None
        steps = [step for step in faults.STEPS if not (no_tiled and step.startswith("feed"))]
        step = min(steps, key=lambda each: 2 * self.reached[each] + self.tried[each])
        self.tried[step] += 1
        return step

    def _kill_at(self, step: str) -> None:
        faults.arm(str(self.faults), step)
        armed = Path(faults.path(str(self.faults), step))
        deadline = time.monotonic() + STEP_TIMEOUT
        while armed.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
            self._replace_killed()
        if not armed.exists():
            self.reached[step] += 1
            name = {"server": "either server", "feed": "writer"}.get(step.split(":")[0])
            self.outcome.kills[name or step.split(":")[0], step] += 1
        armed.unlink(missing_ok=True)

    def _replace_killed(self) -> None:
        if self.engine.process.poll() is not None:
            self.engine.replace()
        self.analysis.check()
        for name, process in list(self.pcs.processes.items()):
            if process.poll() is not None:
                reap(process)
                self.pcs.start(name)


def run(options: argparse.Namespace, top: Path, console: Console) -> Outcome:
    """Cause all faults, wait, and account for all references."""
    began = time.monotonic()
    test = FaultTest(top, options.seed)
    kills = options.kills
    cuts, restores = _spread(kills, POWER_INTERVAL), _spread(kills, RESTORE_INTERVAL)
    away = kills // 2
    try:
        with Progress(console=console) as progress:
            task = progress.add_task("killing", total=kills)
            for number in count():
                test.kill_one(number)
                done = sum(test.outcome.kills.values())
                progress.update(task, completed=done)
                if cuts and done >= cuts[0]:
                    cuts.popleft()
                    test.cut_power()
                if restores and done >= restores[0]:
                    restores.popleft()
                    test.restore_catalog()
                if done >= away and options.without_tiled:
                    test.run_without_tiled(options.without_tiled)
                    options.without_tiled = 0
                if done >= kills:
                    break
        console.print("Done. Waiting until storage has caught up...")
        test.settle(options.settle)
        outcome = test.account()
        outcome.seconds = round(time.monotonic() - began, 1)
        return outcome
    finally:
        test.close()


def _spread(kills: int, interval: int) -> deque[float]:
    """Return after how many kills another fault comes: once in each interval, and at least once."""
    times = max(1, kills // interval)
    return deque((n + 0.5) * kills / times for n in range(times))


def run_at_once(folders: int, options: argparse.Namespace) -> Outcome:
    """Divide the kills among several storage folders, each with its own processes."""
    shares = [options.kills // folders + (n < options.kills % folders) for n in range(folders)]
    without_tiled = options.without_tiled // folders
    began = time.monotonic()
    children = [
        subprocess.Popen(
            [
                sys.executable, __file__, "--json", "--folders", "1", "--kills", str(share),
                "--seed", str(options.seed + number), "--settle", str(options.settle),
                "--without-tiled", str(without_tiled),
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
        f"{sum(outcome.kills.values())} kills, {outcome.power_cuts} power cuts, "
        f"{outcome.catalog_restores} catalog restores, {outcome.runs_without_tiled} runs without "
        f"Tiled, {outcome.published} results, in {outcome.seconds:.0f} s; {outcome.references} "
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
    parser.add_argument(
        "--without-tiled", type=int, help="runs while Tiled is away; twice the kills by default"
    )
    parser.add_argument("--settle", type=float, default=1800, help="s to catch up at the end")
    options = parser.parse_args()
    if options.without_tiled is None:
        options.without_tiled = 2 * options.kills
    console = Console(stderr=options.json)
    if options.folders > 1:
        outcome = run_at_once(options.folders, options)
    else:
        folder = Path(tempfile.mkdtemp()).resolve()
        outcome = run(options, folder, console)
        if outcome.findings:
            console.print(f"What was found can be looked at in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    show(outcome, console)
    if options.json:
        kills = {f"{process}, {step}": n for (process, step), n in outcome.kills.items()}
        print(json.dumps(vars(outcome) | {"kills": kills}))
    sys.exit(bool(outcome.findings))


if __name__ == "__main__":
    main()
