"""The demonstration: a survey, a line of EELS spectra or a map, and where all references went."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bluesky_em.files.ledger import Entry, Ledger
from bluesky_em.files.tiled.address import address_of
from bluesky_em.reference import ReferenceState

from .session import Session

LINE = ((0.04, 0.593), (0.92, 0.628))
"""Where the line scan goes, as fractions of the survey."""
MOST = 24  # rows of a table
COMPLETE = 120.0  # seconds the storage may take after the plan, Tiled's start included


@dataclass
class Summary:
    """What the demonstration measured; `--json` prints it."""

    run_uid: str
    references: list[str]
    exposure_seconds: float
    """the exposures of the line scan, or of the map, alone"""
    plan_seconds: float
    """the same, from its start to its stop document"""
    complete_seconds: float
    """from its stop until its run was complete in Tiled"""
    catalogued: int
    failed: int
    reference_latency_ms: dict[str, float]
    """from the end of an exposure to its reference in the plan: p50, p99; empty for a map"""
    tiled: str
    figure: str


@dataclass(eq=False)
class _Watch:
    """Notes what the RunEngine says while the plans run."""

    starts: dict[str, float] = field(default_factory=dict)
    stops: dict[str, float] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)

    def __call__(self, name: str, document: dict[str, Any]) -> None:
        if name == "start":
            self.starts[document["uid"]] = document["time"]
        elif name == "stop":
            self.stops[document["run_start"]] = document["time"]


def run(
    *,
    points: int,
    exposure: float | None,
    shape: tuple[int, int] | None = None,
    storage: Path | None,
    replay: Path | None,
    figure: Path,
    console: Console,
    serve: bool = False,
) -> Summary:
    """Run the demonstration and give its figures.

    Args:
        points: along the line.
        exposure: at each point, in s; None: 0.1 along a line, 0.002 in a map.
        shape: lines and points of a map; None takes the line of spectra instead.
        storage: the storage folder; None: a temporary one.
        replay: a recorded spectrum for the spectrometer to serve.
        figure: the picture to draw.
        console: where a person looks.
        serve: keep Tiled up until interrupted.
    """
    with _folder(storage) as folder, Session(folder, replay=replay) as session:
        console.print("Two simulated instrument PCs are up; Tiled is starting (nobody waits).")
        watch = _Watch()
        session.RE.subscribe(watch)
        survey = session.acquire_haadf(size=512, dwell=2e-6)
        exposure = exposure or (0.1 if shape is None else 2e-3)
        if shape is None:
            references = _line_scan(session, points, exposure, watch, console)
        else:
            points, references = shape[0] * shape[1], _map(session, shape, exposure, console)
        run_uid = list(watch.stops)[-1]
        console.print("The plan is done. Storage goes on behind its back:")
        session.data.wait(
            [survey, *references], timeout=COMPLETE, failed="return", progress=console.is_terminal
        )
        session.data.wait(run_uid, timeout=COMPLETE)
        completed = time.time()
        address = address_of(session.storage.layout)
        assert address is not None, "a complete run is in Tiled"
        if shape is None:
            _draw(session, survey, references, figure)
        else:
            _draw_map(session, survey, run_uid, figure)
        ledger = Ledger(session.storage.layout.ledger)
        entries = ledger.frames(run_uid)
        ledger.close()
        summary = Summary(
            run_uid=run_uid,
            references=references,
            exposure_seconds=round(points * exposure, 3),
            plan_seconds=round(watch.stops[run_uid] - watch.starts[run_uid], 3),
            complete_seconds=round(completed - watch.stops[run_uid], 3),
            catalogued=_count(entries, ReferenceState.CATALOGUED),
            failed=_count(entries, ReferenceState.FAILED),
            reference_latency_ms={
                f"p{q}": round(1e3 * float(np.percentile(watch.latencies, q)), 2)
                for q in (50, 99)
                if watch.latencies
            },
            tiled=f"{address.uri}?api_key={address.api_key}",
            figure=str(figure),
        )
        console.print(_table(entries, watch.latencies) if shape is None else _blocks(entries))
        _tell(summary, storage, serve, console)
        if serve:
            _keep_up(console)
        if storage is None:
            session.storage.close(wait=True)  # before its folder goes
    return summary


def as_json(summary: Summary) -> dict[str, Any]:
    """Give the summary as plain data."""
    return asdict(summary)


def _line_scan(
    session: Session, points: int, exposure: float, watch: _Watch, console: Console
) -> list[str]:
    eels = session.devices["eels"]
    plan = session.plans["line_scan"](
        eels, session.devices["microscope"],
        start=LINE[0], stop=LINE[1], points=points, exposure=exposure,
    )  # fmt: skip
    with Progress(console=console) as progress:
        task = progress.add_task("EELS line scan", total=points)

        def count(name: str, document: dict[str, Any]) -> None:
            if name == "event" and eels.name in document["data"]:
                watch.latencies.append(eels.latency)
                progress.advance(task)

        token = session.RE.subscribe(count)
        try:
            return session.RE(plan).plan_result  # type: ignore
        finally:
            session.RE.unsubscribe(token)


def _map(session: Session, shape: tuple[int, int], dwell: float, console: Console) -> list[str]:
    plan = session.plans["spectrum_image"](
        session.devices["eels"], session.devices["microscope"], session.devices["adf"],
        shape=shape, dwell=dwell,
    )  # fmt: skip
    with Progress(console=console) as progress:
        task = progress.add_task("EELS map and dark field", total=shape[0] * shape[1])

        def count(name: str, document: dict[str, Any]) -> None:
            progress.update(task, completed=document["indices"]["stop"])

        token = session.RE.subscribe(count, "stream_datum")
        try:
            return session.RE(plan).plan_result  # type: ignore
        finally:
            session.RE.unsubscribe(token)


def _count(entries: list[Entry], stage: ReferenceState) -> int:
    return sum(entry.frame.count for entry in entries if entry.stage is stage)


def _draw(session: Session, survey: str, references: list[str], path: Path) -> None:
    from .demo_figure import draw  # matplotlib takes a second

    draw(
        session.data.open(survey).to_xarray(),
        [session.data.open(reference).to_xarray() for reference in references],
        LINE,
        path,
    )


def _draw_map(session: Session, survey: str, run: str, path: Path) -> None:
    from .demo_figure import draw_map

    stream = session.data.stream(run)
    draw_map(session.data.open(survey).to_xarray(), stream["eels"], stream["adf"], path)


def _blocks(entries: list[Entry]) -> Table:
    table = Table("frames", "last exposure end", "stored", "catalogued", "stage")
    for entry in entries[:MOST]:
        frame, ended = entry.frame, entry.frame.ended
        table.add_row(
            f"…/{frame.detector}/{frame.number} to {frame.number + frame.count - 1}",
            datetime.fromtimestamp(ended).time().isoformat("milliseconds"),
            "-" if entry.stored_at is None else f"+{entry.stored_at - ended:.2f} s",
            "-" if entry.catalogued_at is None else f"+{entry.catalogued_at - ended:.2f} s",
            entry.stage.value,
        )
    if len(entries) > MOST:
        table.add_row(f"and {len(entries) - MOST} more")
    return table


def _table(entries: list[Entry], latencies: list[float]) -> Table:
    table = Table("reference", "exposure end", "reference", "stored", "catalogued", "stage")
    for entry, latency in zip(entries, latencies, strict=True):
        ended = entry.frame.ended
        table.add_row(
            f"…/{entry.frame.detector}/{entry.frame.number}",
            datetime.fromtimestamp(ended).time().isoformat("milliseconds"),
            f"+{1e3 * latency:.1f} ms",
            "-" if entry.stored_at is None else f"+{entry.stored_at - ended:.2f} s",
            "-" if entry.catalogued_at is None else f"+{entry.catalogued_at - ended:.2f} s",
            entry.stage.value,
        )
    return table


def _tell(summary: Summary, storage: Path | None, serve: bool, console: Console) -> None:
    console.print(
        f"The plan took {summary.plan_seconds:.2f} s, its exposures {summary.exposure_seconds:.2f}"
        f" s; storage went on for {summary.complete_seconds:.2f} s after it.\n"
        f"{summary.catalogued} references catalogued, {summary.failed} failed. "
        f"Figure: {summary.figure}"
    )
    uri, _, key = summary.tiled.partition("?api_key=")
    reference = summary.references[-1]
    if serve:
        data = f'Data("{uri}", api_key="{key}")'
        console.print(f"Tiled: {summary.tiled}\nRead it back, from any process:", soft_wrap=True)
    elif storage is not None:
        data = f'Data(storage="{storage}")'
        console.print("Read it back, from any process (--serve keeps Tiled up, too):")
    else:
        console.print("Nothing is kept of this; --storage DIR keeps the data, --serve Tiled.")
        return
    lines = (
        "from bluesky_em import Data",
        f"data = {data}",
        f'data.open("{reference}").to_xarray()',
    )
    console.print("\n".join(lines), soft_wrap=True, highlight=False)


def _keep_up(console: Console) -> None:
    console.print("\nTiled stays up until you press Ctrl-C.")
    try:
        while True:
            time.sleep(1.0)
    except KeyboardInterrupt:
        console.print("Good-bye.")


@contextmanager
def _folder(storage: Path | None) -> Iterator[Path]:
    if storage is not None:
        yield storage
        return
    with tempfile.TemporaryDirectory(prefix="bluesky-em-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
