"""The command line: `bluesky-em`."""

from __future__ import annotations

import json
import signal
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(
    help="Bluesky for analytical electron microscopes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DEFAULT_STORAGE = Path("~/em-data")
StorageFolder = Annotated[Path, typer.Option("--storage", help="The storage folder.")]
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


@app.command()
def demo(
    points: Annotated[int, typer.Option(min=1, help="Points of the EELS line scan.")] = 20,
    exposure: Annotated[float, typer.Option(min=1e-6, max=5, help="At each point, in s.")] = 0.1,
    storage: Annotated[Path | None, typer.Option(help="Default: a temporary folder.")] = None,
    replay: Replay = None,
    figure: Annotated[Path, typer.Option(help="The picture to draw.")] = Path("demo.png"),
    serve: Annotated[bool, typer.Option("--serve", help="Keep Tiled up.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show all of it: survey, EELS line scan, storage behind the plan's back. No hardware."""
    from . import demo as demonstration

    console = Console(stderr=as_json)
    if not figure.absolute().parent.is_dir():
        raise FileNotFoundError(f"--figure {figure}: there is no folder {figure.absolute().parent}")
    summary = demonstration.run(
        points=points, exposure=exposure, storage=storage, replay=replay, figure=figure,
        console=console, serve=serve,
    )  # fmt: skip
    if as_json:
        print(json.dumps(demonstration.as_json(summary)))
    if summary.failed or summary.catalogued != len(summary.references):
        sys.exit(1)


@app.command()
def shell(
    storage: StorageFolder = DEFAULT_STORAGE,
    devices: Annotated[str, typer.Option(help="A file in the lab's devices/.")] = "simulated",
    tiled: Tiled = None,
    replay: Replay = None,
) -> None:
    """Open IPython with RE, the lab's devices and plans, and data."""
    import IPython
    from traitlets.config import Config

    from .session import Session

    devices = Path(devices).stem  # a path, as the command line completes it, will do
    with Session(storage, devices=devices, tiled=tiled, replay=replay, progress=True) as session:
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
    if instrument is Instrument.GATAN:
        options = {"beam": beam} if beam else {}
        serving.serve_gatan(
            host, names.EELS_PORT if port is None else port, spool,
            simulate=simulate, replay=replay, latency=latency, held=held, **options,
        )  # fmt: skip
    else:
        serving.serve_autoscript(
            host, names.TEM_PORT if port is None else port, spool,
            simulate=simulate, microscope=microscope, latency=latency, held=held,
        )  # fmt: skip


@app.command()
def writer(
    storage: Annotated[Path, typer.Argument(help="The storage folder.")], tiled: Tiled = None
) -> None:
    """Run a storage folder's writer as a service, until interrupted."""
    from .keeper import Keeper
    from .layout import Layout

    keeper = Keeper(Layout(storage.expanduser().absolute()), tiled=tiled, api_key=None)
    print(f"Keeping the writer of {storage}; Ctrl-C ends it, nothing is lost.")
    try:
        while True:
            time.sleep(1.0)
    except KeyboardInterrupt:
        keeper.close()


@app.command()
def status(storage: StorageFolder = DEFAULT_STORAGE) -> None:
    """Tell how many references are at which stage, and what holds the writer up."""
    from .layout import Layout
    from .ledger import Ledger

    layout = Layout(storage.expanduser().absolute())
    if not layout.journal.is_dir():
        raise FileNotFoundError(f"{layout.root} is no storage folder: nothing was ever kept there")
    ledger = Ledger(layout.ledger, read_only=True)
    for stage, count in ledger.counts().items():
        print(f"{stage.value:>12} {count}")
    pulse = ledger.pulse()
    alive = f"{time.time() - pulse.beat:.0f} s ago" if pulse.beat else "never"
    print(f"last sign of life of the writer: {alive}; {pulse.trouble or 'no trouble'}")


def main() -> None:
    """Run the command line."""
    try:
        app()
    except (RuntimeError, ValueError, OSError) as exc:
        sys.exit(f"bluesky-em: {exc}")
    except KeyboardInterrupt:
        sys.exit("bluesky-em: interrupted")


if __name__ == "__main__":
    main()
