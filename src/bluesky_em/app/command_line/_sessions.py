"""Commands to begin with: `demo`, `shell`, `init`."""

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
        str | None, typer.Option("--map", help="Take a map instead of a line, e.g. 64x64.")
    ] = None,
    storage: Annotated[
        Path | None, typer.Option(help="The storage folder; default: a temporary one.")
    ] = None,
    replay: Replay = None,
    figure: Annotated[Path, typer.Option(help="The picture to draw.")] = Path("demo.png"),
    serve: Annotated[
        bool, typer.Option("--serve", help="Keep the Tiled server running until Ctrl-C.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Take a survey and EELS spectra with simulated instruments; store and catalog them."""
    from .. import demo as demonstration

    console = Console(stderr=as_json)
    if not figure.absolute().parent.is_dir():
        raise FileNotFoundError(
            f"--figure {figure}: the folder {figure.absolute().parent} does not exist"
        )
    map_shape = _shape(shape)
    with demonstration.Demo(
        storage=storage, replay=replay, figure=figure, console=console
    ) as running:
        if map_shape is None:
            running.line(points, exposure or 0.1)
        else:
            running.map(map_shape, exposure or 2e-3)
        summary = running.report(serve)
        if serve:
            running.keep_serving()
    if as_json:
        print(json.dumps(demonstration.as_json(summary)))
    if summary.failed or summary.catalogued < len(summary.references):
        sys.exit(1)


def _shape(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    lines, _, points = text.partition("x")
    if not (lines.isdecimal() and points.isdecimal()) or "0" in (lines, points):
        raise ValueError(f"--map {text!r} is not LINESxPOINTS, e.g. 64x64")
    return int(lines), int(points)


def shell(
    storage: StorageFolder = DEFAULT_STORAGE,
    devices: Annotated[
        str, typer.Option(help="Name of a file in the lab's devices/.")
    ] = "simulated",
    tiled: Tiled = None,
    replay: Replay = None,
    on_failure: Annotated[
        OnFailure, typer.Option(help="What plans do when storage has failed.")
    ] = OnFailure.CONTINUE,
    on_failure_catalog: Annotated[
        bool,
        typer.Option(
            "--on-failure-catalog", help="Cataloguing that stands still is such a failure, too."
        ),
    ] = False,
    readable: Annotated[
        list[Path] | None,
        typer.Option(help="A folder in which another detector writes; repeat for more."),
    ] = None,
) -> None:
    """Open IPython with RE, data, and the lab's devices and plans."""
    import IPython
    from traitlets.config import Config

    from ..session import Session

    devices = Path(devices).stem  # a path is accepted, too
    with Session(
        storage, devices=devices, tiled=tiled, replay=replay, progress=True,
        on_failure=on_failure, on_failure_catalog=on_failure_catalog, readable=readable or None,
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
            signal.signal(
                number, lambda *_: sys.exit(1)
            )  # parks the instruments, as when the terminal closes
        IPython.start_ipython(argv=[], user_ns=names, config=config)


def init(
    folder: Annotated[Path, typer.Argument(help="The folder to copy them to.")] = Path(),
) -> None:
    """Copy devices/, plans/ and queue_server/ to a folder, to edit them there."""
    from .. import lab

    for target in lab.init(folder):
        print(f"created {target}; edit it as you like")
