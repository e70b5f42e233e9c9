"""Commands that read runs: `follow`, `plot`, `analyse`, `export`."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._options import DEFAULT_STORAGE, StorageFolder, Tiled, layout_of

if TYPE_CHECKING:
    from bluesky_em.data import Data, RunFollower

Run = Annotated[str | None, typer.Argument(help="The uid of a run; default: all runs from now on.")]
Last = Annotated[int, typer.Option(min=0, help="Begin with this number of the newest runs.")]
Stream = Annotated[str, typer.Option(help="The stream of the runs.")]


def follow(
    run: Run = None,
    columns: Annotated[
        list[str] | None, typer.Option("--column", help="A data key to show; repeat for more.")
    ] = None,
    storage: StorageFolder = DEFAULT_STORAGE,
    tiled: Tiled = None,
    last: Last = 0,
    stream: Stream = "primary",
) -> None:
    """Print the points of a run, or of all runs from now on, as they become readable."""
    from ..live import tabulate

    with _data(storage, tiled) as data:
        for each in _runs(data, run, stream, last):
            tabulate(each, columns or ())


def plot(
    run: Run = None,
    y: Annotated[
        str | None, typer.Option(help="A data key or a detector; default: the first total.")
    ] = None,
    x: Annotated[str | None, typer.Option(help="A data key; default: what the plan moves.")] = None,
    png: Annotated[
        Path | None, typer.Option(help="Write a picture to this file; open no window.")
    ] = None,
    storage: StorageFolder = DEFAULT_STORAGE,
    tiled: Tiled = None,
    last: Last = 0,
    stream: Stream = "primary",
    since: Annotated[float | None, typer.Option(hidden=True)] = None,
    held: Annotated[bool, typer.Option("--held", hidden=True)] = False,
) -> None:
    """Plot a run, or all runs from now on, until the window is closed."""
    from bluesky_em.storage import processes

    from ..live import plot as plot_runs

    if held:
        processes.on_parent_exit(lambda _: os._exit(0))
    if png is not None and not png.absolute().parent.is_dir():
        raise FileNotFoundError(f"--png {png}: the folder {png.absolute().parent} does not exist")
    with _data(storage, tiled) as data:
        plot_runs(_runs(data, run, stream, last, since), x=x, y=y, png=png)


def analyse(
    function: Annotated[
        str, typer.Argument(help="One of bluesky_em.analysis, module:function or file.py:function.")
    ],
    run: Run = None,
    parameters: Annotated[
        list[str] | None,
        typer.Option("--parameter", help="name=value; a reference is replaced by its frame."),
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(help="The detector to analyse; default: eels, or the only one of RUN."),
    ] = None,
    storage: StorageFolder = DEFAULT_STORAGE,
    tiled: Tiled = None,
    last: Last = 0,
    stream: Stream = "primary",
) -> None:
    """Run a function on frames as they become readable; the results are a run in the catalog."""
    from bluesky_em.analysis import online

    chosen = online.FrameFunction.named(function, dict(map(_parameter, parameters or ())))
    with _data(storage, tiled) as data, _emitter(storage, tiled) as emit:
        if run is not None:
            done = online.process(data, run, chosen, emit, detector=detector, stream=stream)
            _print_result(done, chosen.name)
            if done.error:
                raise RuntimeError(f"{chosen.name}: {done.error}")
            return
        print(f"{chosen.name} is run on all runs from now on; Ctrl-C ends it", flush=True)
        for done in online.process_all(
            data, chosen, emit, detector=detector or "eels", stream=stream, last=last,
            patience=math.inf,
        ):  # fmt: skip
            _print_result(done, chosen.name)


def export(
    what: Annotated[str, typer.Argument(help="The uid of a run, or one reference.")],
    to: Annotated[
        str, typer.Option("--format", help="nxs, hspy, zspy, or csv (for one spectrum).")
    ],
    out: Annotated[Path, typer.Option(help="The file to write.")],
    detector: Annotated[
        str | None, typer.Option(help="Default: the only detector of the run.")
    ] = None,
    stream: Annotated[str, typer.Option(help="The stream of the run.")] = "primary",
    rows: Annotated[
        str | None, typer.Option(help="Frames of a series, e.g. 0:10 for the first ten.")
    ] = None,
    storage: StorageFolder = DEFAULT_STORAGE,
    tiled: Tiled = None,
) -> None:
    """Write a run's spectra or images to a file for HyperSpy or other programs."""
    from bluesky_em.data import export as exporting

    wanted = exporting.FileFormat.named(to)
    with _data(storage, tiled) as data:
        selection = exporting.select(
            data, what, detector=detector, stream=stream, rows=_range(rows)
        )
        exporting.write(selection, out, wanted)
    shape = ", ".join(f"{dim}: {size}" for dim, size in selection.array.sizes.items())
    print(f"{out}: {selection.detector} ({shape})")


def _range(rows: str | None) -> range | None:
    if rows is None:
        return None
    first, colon, stop = rows.partition(":")
    if not (colon and first.isdecimal() and stop.isdecimal()):
        raise ValueError(f"--rows {rows!r}: give the first and the one after the last, e.g. 0:10")
    return range(int(first), int(stop))


def _print_result(done: Any, function: str) -> None:
    text = f"{done.input}: {done.points} frames, results in run {done.run or '-'}"
    text += f"; {done.failed} were lost" if done.failed else ""
    print(text + (f"; {function}: {done.error}" if done.error else ""), flush=True)


def _runs(
    data: Data, run: str | None, stream: str, last: int, since: float | None = None
) -> Iterator[RunFollower]:
    if run is not None:
        return iter([data.follow(run, streams=stream)])
    return data.follow(streams=stream, last=last, since=since, patience=math.inf)


@contextmanager
def _data(storage: Path, tiled: str | None) -> Iterator[Data]:
    """Yield a reader: of the Tiled server if one is named, otherwise of the folder."""
    from bluesky_em.data import Data  # its imports take seconds
    from bluesky_em.storage import processes

    processes.lower_priority()  # the plan comes first
    data = Data(tiled) if tiled is not None else Data(storage=layout_of(storage).root)
    try:
        yield data
    finally:
        data.close()


@contextmanager
def _emitter(storage: Path, tiled: str | None) -> Iterator[Any]:
    """Yield a callback for the documents of processed runs."""
    if tiled is not None:
        from bluesky_tiled_plugins import TiledWriter
        from tiled.client import from_uri

        from bluesky_em.files.tiled import results_container

        client = from_uri(tiled)
        try:
            yield TiledWriter(results_container.find_or_create(client), batch_size=100)
        finally:
            client.context.close()
    else:
        from bluesky_em.storage.callback import Storage

        with Storage(layout_of(storage).root) as emit:
            yield emit


def _parameter(text: str) -> tuple[str, Any]:
    name, is_given, value = text.partition("=")
    if not (name and is_given):
        raise ValueError(f"--parameter {text!r} is not name=value, e.g. onset=456")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
