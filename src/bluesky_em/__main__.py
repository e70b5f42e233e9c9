"""The command line: `bluesky-em`."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections import Counter
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from .errors import BlueskyEMError
from .layout import Layout

app = typer.Typer(
    help="Bluesky for analytical electron microscopes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DEFAULT_STORAGE = Path("~/em-data")
StorageFolder = Annotated[Path, typer.Option("--storage", help="The storage folder.")]
What = Annotated[list[str], typer.Argument(help="References, or uids of runs.")]
Tiled = Annotated[str | None, typer.Option(help="Address of a Tiled server; default: embedded.")]
Replay = Annotated[
    Path | None, typer.Option(exists=True, dir_okay=False, help="Serve this .dm3/.dm4 spectrum.")
]


class Instrument(StrEnum):
    """An instrument PC's server."""

    GATAN = "gatan"
    """the EELS spectrometer"""
    AUTOSCRIPT = "autoscript"
    """the microscope"""


class OnFailure(StrEnum):
    """What a plan does, at its next checkpoint, once storage has failed for good."""

    CONTINUE = "continue"
    PAUSE = "pause"
    ABORT = "abort"


@app.command()
def demo(
    points: Annotated[int, typer.Option(min=1, help="Points of the EELS line scan.")] = 20,
    exposure: Annotated[
        float | None, typer.Option(min=1e-6, max=5, help="At each point, in s.")
    ] = None,
    shape: Annotated[
        str | None, typer.Option("--map", help="Instead of the line, a map, e.g. 64x64.")
    ] = None,
    storage: Annotated[Path | None, typer.Option(help="Default: a temporary folder.")] = None,
    replay: Replay = None,
    figure: Annotated[Path, typer.Option(help="The picture to draw.")] = Path("demo.png"),
    serve: Annotated[bool, typer.Option("--serve", help="Keep Tiled up.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show all of it: survey, EELS spectra, storage behind the plan's back. No hardware."""
    from . import demo as demonstration

    console = Console(stderr=as_json)
    if not figure.absolute().parent.is_dir():
        raise FileNotFoundError(f"--figure {figure}: there is no folder {figure.absolute().parent}")
    summary = demonstration.run(
        points=points, exposure=exposure, shape=_shape(shape), storage=storage, replay=replay,
        figure=figure, console=console, serve=serve,
    )  # fmt: skip
    if as_json:
        print(json.dumps(demonstration.as_json(summary)))
    if summary.failed or summary.catalogued < len(summary.references):
        sys.exit(1)


def _shape(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    lines, _, points = text.partition("x")
    if not (lines.isdecimal() and points.isdecimal()) or "0" in (lines, points):
        raise ValueError(f"--map {text!r}: give lines x points, e.g. 64x64")
    return int(lines), int(points)


@app.command()
def shell(
    storage: StorageFolder = DEFAULT_STORAGE,
    devices: Annotated[str, typer.Option(help="A file in the lab's devices/.")] = "simulated",
    tiled: Tiled = None,
    replay: Replay = None,
    on_failure: Annotated[
        OnFailure, typer.Option(help="What plans do once storage has failed for good.")
    ] = OnFailure.CONTINUE,
) -> None:
    """Open IPython with RE, the lab's devices and plans, and data."""
    import IPython
    from traitlets.config import Config

    from .session import Session

    devices = Path(devices).stem  # a path, as the command line completes it, will do
    with Session(
        storage, devices=devices, tiled=tiled, replay=replay, progress=True,
        on_failure=on_failure.value,
    ) as session:  # fmt: skip
        names = session.namespace()
        for file, error in session.broken_plans.items():
            print(f"plans/{file} could not be loaded: {error!r}", file=sys.stderr)
        config = Config()
        config.TerminalInteractiveShell.banner2 = (
            f"RE, data, storage; devices: {', '.join(session.devices)}; "
            f"plans: {', '.join(session.plans)}\n"
            "Try: ref = microscope.acquire_eels(exposure=0.1); data.wait(ref); "
            "data.open(ref).to_xarray().plot()\n"
        )
        config.InteractiveShell.xmode = "Minimal"
        for number in {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}:
            signal.signal(number, lambda *_: sys.exit(1))  # a closed terminal parks, too
        IPython.start_ipython(argv=[], user_ns=names, config=config)


@app.command()
def init(folder: Annotated[Path, typer.Argument(help="Where to put them.")] = Path()) -> None:
    """Copy devices/ and plans/ here, to make them yours."""
    from . import lab

    for target in lab.init(folder):
        print(f"made {target}; edit it, it is yours")


@app.command()
def serve(
    instrument: Instrument,
    simulate: Annotated[bool, typer.Option("--simulate", help="Without an instrument.")] = False,
    host: Annotated[str, typer.Option(help="Beyond loopback: set BLUESKY_EM_TOKEN.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Default: 9091 Gatan, 9095 AutoScript.")
    ] = None,
    spool: Annotated[Path | None, typer.Option(help="Folder for waiting frames.")] = None,
    spool_limit: Annotated[
        float | None, typer.Option(min=0.001, help="GB that may wait; default: its disk.")
    ] = None,
    microscope: Annotated[str, typer.Option(help="Host of AutoScript's own server.")] = "localhost",
    beam: Annotated[str | None, typer.Option(help="Gatan, simulated: the beam to look at.")] = None,
    replay: Replay = None,
    latency: Annotated[bool, typer.Option(help="Simulated: take real times.")] = True,
    held: Annotated[bool, typer.Option("--held", hidden=True)] = False,
) -> None:
    """Serve an instrument on its own PC."""
    from . import instrument as names
    from . import serving

    spool = spool or Path("~/em-spool").expanduser() / instrument.value
    limit = None if spool_limit is None else int(spool_limit * 1e9)
    if instrument is Instrument.GATAN:
        options = {"beam": beam} if beam else {}
        serving.serve_gatan(
            host, names.EELS_PORT if port is None else port, spool,
            simulate=simulate, replay=replay, latency=latency, spool_limit=limit, held=held,
            **options,
        )  # fmt: skip
    else:
        serving.serve_autoscript(
            host, names.TEM_PORT if port is None else port, spool,
            simulate=simulate, microscope=microscope, latency=latency, spool_limit=limit, held=held,
        )  # fmt: skip


@app.command()
def writer(
    storage: Annotated[Path, typer.Argument(help="The storage folder.")], tiled: Tiled = None
) -> None:
    """Run a storage folder's writer as a service, until interrupted."""
    from .keeper import Keeper

    keeper = Keeper(Layout(storage.expanduser().absolute()), tiled=tiled, api_key=None)
    print(f"Keeping the writer of {storage}; Ctrl-C ends it, nothing is lost.")
    try:
        while True:
            time.sleep(1.0)
    except KeyboardInterrupt:
        keeper.close()


@app.command()
def status(
    storage: StorageFolder = DEFAULT_STORAGE,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Tell how far references are, how fast it goes, what waits where, and what is wrong."""
    from . import overview

    seen = overview.look(_layout(storage))
    if as_json:
        print(json.dumps(asdict(seen)))
    else:
        Console().print(overview.show(seen))


@app.command()
def verify(
    run: Annotated[str, typer.Argument(help="The uid of a run.")],
    storage: StorageFolder = DEFAULT_STORAGE,
    tiled: Tiled = None,
    with_tiled: Annotated[bool, typer.Option("--tiled-too/--without-tiled")] = True,
) -> None:
    """Hold a run's journal, ledger, files and catalog against each other, byte by byte."""
    from .audit import audit_run
    from .data import Data
    from .ledger import Ledger

    layout = _layout(storage)
    data, ledger = Data(tiled, storage=layout.root), Ledger(layout.ledger, read_only=True)
    try:
        findings = list(audit_run(layout, ledger, run, data.catalog if with_tiled else None))
        counts = Counter(entry.stage.value for entry in ledger.frames(run))
    finally:
        ledger.close()
        data.close()
    for finding in findings:
        print(finding)
    print(f"{run}: {dict(counts) or 'no references'}; {len(findings)} findings")
    sys.exit(bool(findings))


@app.command()
def doctor(
    storage: StorageFolder = DEFAULT_STORAGE,
    tiled: Tiled = None,
    with_tiled: Annotated[bool, typer.Option("--tiled-too/--without-tiled")] = True,
    runs: Annotated[int, typer.Option(min=0, help="How many of the newest to read whole.")] = 20,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended.")] = False,
) -> None:
    """Look for what is wrong with a storage folder; only with --repair is anything changed."""
    from . import doctor as practice
    from .data import Data

    layout = _layout(storage)
    data = Data(tiled, storage=layout.root)
    ailments = 0
    try:
        client = (lambda: data.catalog) if with_tiled else None
        for ailment in practice.examine(layout, client, runs):
            ailments += 1
            print(f"- {ailment.what}\n  {ailment.cure}")
            if repair and ailment.repair is not None:
                ailment.repair()
                print("  done")
    finally:
        data.close()
    print(f"{ailments} ailments" if ailments else "all is well")
    sys.exit(bool(ailments) and not repair)


@app.command()
def retry(what: What, storage: StorageFolder = DEFAULT_STORAGE) -> None:
    """Have failed frames tried again, by reference or by run."""
    from .requests import Action

    _ask(storage, Action.RETRY, what)


@app.command()
def give_up(
    what: What,
    reason: Annotated[str, typer.Option(help="For whoever misses them.")],
    storage: StorageFolder = DEFAULT_STORAGE,
) -> None:
    """Call frames failed whose server will not come back, so that their run can be complete."""
    from .requests import Action

    _ask(storage, Action.GIVE_UP, what, reason)


@app.command()
def export(
    what: Annotated[str, typer.Argument(help="The uid of a run, or one reference.")],
    to: Annotated[str, typer.Option("--format", help="nxs, hspy, zspy or csv (one spectrum).")],
    out: Annotated[Path, typer.Option(help="The file to write.")],
    detector: Annotated[str | None, typer.Option(help="Default: the only one.")] = None,
    stream: Annotated[str, typer.Option(help="Of the run.")] = "primary",
    storage: StorageFolder = DEFAULT_STORAGE,
) -> None:
    """Write a run's spectra or images to a file for HyperSpy or others."""
    from . import export as exporting
    from .data import Data

    wanted = exporting.FileFormat.named(to)
    data = Data(storage=_layout(storage).root)
    try:
        selection = exporting.select(data, what, detector=detector, stream=stream)
        exporting.write(selection, out, wanted)
    finally:
        data.close()
    shape = ", ".join(f"{dim}: {size}" for dim, size in selection.array.sizes.items())
    print(f"{out}: {selection.detector} ({shape})")


def _ask(storage: Path, action: Any, what: list[str], reason: str = "") -> None:
    from . import requests
    from .ledger import Ledger

    layout = _layout(storage)
    ledger = Ledger(layout.ledger, read_only=True)
    try:
        paths = requests.ask_for(layout, ledger, action, what, reason)
    finally:
        ledger.close()
    if requests.heard(paths, timeout=5.0):
        print(f"The writer is at it; `bluesky-em status --storage {layout.root}` shows how it goes")
    else:
        print(f"Noted. No writer works on {layout.root} now; the next one will do it")


def _layout(storage: Path) -> Layout:
    layout = Layout(storage.expanduser().absolute())
    if not layout.journal.is_dir():
        raise FileNotFoundError(
            f"{layout.root} is no storage folder: nothing was ever kept there. Give --storage"
        )
    return layout


def main() -> None:
    """Run the command line."""
    try:
        app()
    except (BlueskyEMError, RuntimeError, ValueError, OSError, LookupError) as exc:
        sys.exit(f"bluesky-em: {exc}")
    except KeyboardInterrupt:
        sys.exit("bluesky-em: interrupted")


if __name__ == "__main__":
    main()
