"""Commands that begin something: demo, shell, init."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bluesky_em.storage.failure_policy import OnFailure

from ._options import DEFAULT_STORAGE, Replay, StorageFolder, Tiled


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
    from .. import demo as demonstration

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

    from ..session import Session

    devices = Path(devices).stem  # a path, as the command line completes it, will do
    with Session(
        storage, devices=devices, tiled=tiled, replay=replay, progress=True,
        on_failure=on_failure,
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


def init(folder: Annotated[Path, typer.Argument(help="Where to put them.")] = Path()) -> None:
    """Copy devices/ and plans/ here, to make them yours."""
    from .. import lab

    for target in lab.init(folder):
        print(f"made {target}; edit it, it is yours")
