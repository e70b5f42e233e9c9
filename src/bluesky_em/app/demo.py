"""The demonstration: a survey, a line of EELS spectra or a map, and the state of each reference."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from bluesky_em.files.ledger import Entry, Ledger
from bluesky_em.reference import ReferenceState

from .demo_tables import table_of_blocks, table_of_references
from .session import Session

LINE = ((0.04, 0.593), (0.92, 0.628))
"""The ends of the line scan, as fractions of the survey."""
COMPLETE_TIMEOUT = 120.0  # s after the plan, until storage is done; the start of Tiled included


@dataclass
class Summary:
    """The figures of the demonstration; `--json` prints them."""

    run_uid: str
    references: list[str]
    exposure_seconds: float
    """sum of the exposures of the line scan or of the map"""
    plan_seconds: float
    """the same run, from its start document to its stop document"""
    complete_seconds: float
    """from its stop document until the run was complete in Tiled"""
    catalogued: int
    failed: int
    reference_latency_ms: dict[str, float]
    """from the end of an exposure to its reference in the plan: p50, p99; empty for a map"""
    tiled: str
    figure: str


@dataclass(eq=False)
class _RunTimes:
    """The times of start and stop documents, by run."""

    starts: dict[str, float] = field(default_factory=dict)
    stops: dict[str, float] = field(default_factory=dict)

    def __call__(self, name: str, document: dict[str, Any]) -> None:
        if name == "start":
            self.starts[document["uid"]] = document["time"]
        elif name == "stop":
            self.stops[document["run_start"]] = document["time"]


class Demo:
    """A survey, then `line` or `map`, then `report`; a context manager.

    Args:
        storage: the storage folder; None: a temporary one.
        replay: a recorded spectrum for the spectrometer to serve.
        figure: the picture to draw.
        console: prints progress and results.
    """

    def __init__(
        self, *, storage: Path | None, replay: Path | None, figure: Path, console: Console
    ):
        self._storage = storage
        self._figure = figure
        self._console = console
        self._times = _RunTimes()
        self._latencies: list[float] = []  # s, of each point of a line
        self._references: list[str] = []
        self._run = ""
        self._exposures = 0.0  # s, all together
        self._completed = 0.0  # s since 1970
        with ExitStack() as stack:
            folder = stack.enter_context(_folder(storage))
            self._session = stack.enter_context(Session(folder, replay=replay))
            console.print("Two simulated instrument PCs are up; Tiled starts in the background.")
            self._session.RE.subscribe(self._times)
            self._survey = self._session.acquire_haadf(size=512, dwell=2e-6)
            self._stack = stack.pop_all()

    def line(self, points: int, exposure: float = 0.1) -> None:
        """Take a line of spectra, wait until it is complete, and draw it.

        Args:
            points: number of spectra.
            exposure: of each, in s.
        """
        from .demo_figure import draw  # importing matplotlib takes a second

        devices, data = self._session.devices, self._session.data
        plan = self._session.plans["line_scan"](
            devices["eels"], devices["microscope"],
            start=LINE[0], stop=LINE[1], points=points, exposure=exposure,
        )  # fmt: skip

        def progress(name: str, document: dict[str, Any]) -> int | None:
            if name == "event" and devices["eels"].name in document["data"]:
                self._latencies.append(devices["eels"].latency)
                return len(self._latencies)
            return None

        self._run_plan(plan, "EELS line scan", points, progress)
        self._finish(points * exposure)
        spectra = [data.open(reference).to_xarray() for reference in self._references]
        draw(data.open(self._survey).to_xarray(), spectra, LINE, self._figure)

    def map(self, shape: tuple[int, int], dwell: float = 2e-3) -> None:
        """Take a map and its dark field in one fly scan, wait until it is complete, and draw it.

        Args:
            shape: lines, and points of a line.
            dwell: at each point, in s.
        """
        from .demo_figure import draw_map  # importing matplotlib takes a second

        devices, data = self._session.devices, self._session.data
        plan = self._session.plans["spectrum_image"](
            devices["eels"], devices["microscope"], devices["adf"], shape=shape, dwell=dwell
        )

        def progress(name: str, document: dict[str, Any]) -> int | None:
            return document["indices"]["stop"] if name == "stream_datum" else None

        points = shape[0] * shape[1]
        self._run_plan(plan, "EELS map and dark field", points, progress)
        self._finish(points * dwell)
        stream = data.stream(self._run)
        draw_map(data.open(self._survey).to_xarray(), stream["eels"], stream["adf"], self._figure)

    def report(self, serve: bool = False) -> Summary:
        """Print the state of each reference and how to read it back; return the figures.

        Args:
            serve: print the address of the Tiled server, which is kept running.
        """
        ledger = Ledger(self._session.storage.layout.ledger)
        entries = ledger.frames(self._run)
        ledger.close()
        latencies = self._latencies
        self._console.print(
            table_of_references(entries, latencies) if latencies else table_of_blocks(entries)
        )
        summary = self._summary(entries)
        self._console.print(
            f"The plan took {summary.plan_seconds:.2f} s, its exposures "
            f"{summary.exposure_seconds:.2f} s; storage continued for "
            f"{summary.complete_seconds:.2f} s after it.\n"
            f"{summary.catalogued} references catalogued, {summary.failed} failed. "
            f"Figure: {summary.figure}"
        )
        self._print_how_to_read(summary, serve)
        return summary

    def keep_serving(self) -> None:
        """Keep the Tiled server running until Ctrl-C."""
        self._console.print("\nTiled stays up until you press Ctrl-C.")
        try:
            while True:
                time.sleep(1.0)
        except KeyboardInterrupt:
            self._console.print("Good-bye.")

    def close(self) -> None:
        """Stop the instruments; a temporary folder is removed."""
        try:
            if self._storage is None:  # the writer must be done before its folder is removed
                self._session.storage.close(wait=True)
        finally:
            self._stack.close()

    def __enter__(self) -> Demo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if exc is None:
            self.close()
        else:
            self._stack.close()

    def _run_plan(
        self, plan: Any, title: str, points: int,
        progress: Callable[[str, dict[str, Any]], int | None],
    ) -> None:  # fmt: skip
        engine = self._session.RE
        with Progress(console=self._console) as bar:
            task = bar.add_task(title, total=points)

            def count(name: str, document: dict[str, Any]) -> None:
                completed = progress(name, document)
                if completed is not None:
                    bar.update(task, completed=completed)

            token = engine.subscribe(count)
            try:
                self._references = engine(plan).plan_result  # type: ignore
            finally:
                engine.unsubscribe(token)

    def _finish(self, exposures: float) -> None:
        """Wait until the run is complete; `exposures` in s."""
        self._exposures = exposures
        self._run = list(self._times.stops)[-1]
        self._console.print("The plan is done. Storage continues in the background:")
        data = self._session.data
        data.wait(
            [self._survey, *self._references], timeout=COMPLETE_TIMEOUT, failed="return",
            progress=self._console.is_terminal,
        )  # fmt: skip
        data.wait(self._run, timeout=COMPLETE_TIMEOUT)
        self._completed = time.time()

    def _summary(self, entries: list[Entry]) -> Summary:
        address = self._session.storage.tiled_address
        assert address is not None, "a complete run is in Tiled"
        start, stop = self._times.starts[self._run], self._times.stops[self._run]
        return Summary(
            run_uid=self._run,
            references=self._references,
            exposure_seconds=round(self._exposures, 3),
            plan_seconds=round(stop - start, 3),
            complete_seconds=round(self._completed - stop, 3),
            catalogued=_count(entries, ReferenceState.CATALOGUED),
            failed=_count(entries, ReferenceState.FAILED),
            reference_latency_ms={
                f"p{q}": round(1e3 * float(np.percentile(self._latencies, q)), 2)
                for q in (50, 99)
                if self._latencies
            },
            tiled=f"{address.uri}?api_key={address.api_key}",
            figure=str(self._figure),
        )

    def _print_how_to_read(self, summary: Summary, serve: bool) -> None:
        address = self._session.storage.tiled_address
        console = self._console
        if serve and address is not None:
            data = f'Data("{address.uri}", api_key="{address.api_key}")'
            console.print(
                f"Tiled: {summary.tiled}\nRead it back, from any process:", soft_wrap=True
            )
        elif self._storage is not None:
            data = f'Data(storage="{self._storage}")'
            console.print("Read it back, from any process (--serve keeps Tiled up, too):")
        else:
            console.print("Nothing is kept of this; --storage DIR keeps the data, --serve Tiled.")
            return
        lines = (
            "from bluesky_em import Data",
            f"data = {data}",
            f'data.open("{summary.references[-1]}").to_xarray()',
        )
        console.print("\n".join(lines), soft_wrap=True, highlight=False)


def as_json(summary: Summary) -> dict[str, Any]:
    """Return the summary as plain data."""
    return asdict(summary)


def _count(entries: list[Entry], state: ReferenceState) -> int:
    return sum(entry.frame.count for entry in entries if entry.stage is state)


@contextmanager
def _folder(storage: Path | None) -> Iterator[Path]:
    if storage is not None:
        yield storage
        return
    with tempfile.TemporaryDirectory(prefix="bluesky-em-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
