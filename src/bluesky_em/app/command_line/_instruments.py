"""The command for instrument PCs: `serve`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ._options import Replay


class Instrument(StrEnum):
    """An instrument PC's server."""

    GATAN = "gatan"
    """the EELS spectrometer"""
    AUTOSCRIPT = "autoscript"
    """the microscope"""


def serve(
    instrument: Instrument,
    simulate: Annotated[bool, typer.Option("--simulate", help="Simulate the instrument.")] = False,
    host: Annotated[
        str, typer.Option(help="Address to listen on; not loopback: set BLUESKY_EM_TOKEN.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Default: 9091 Gatan, 9095 AutoScript.")
    ] = None,
    spool: Annotated[Path | None, typer.Option(help="Folder for waiting frames.")] = None,
    spool_limit: Annotated[
        float | None,
        typer.Option(min=0.001, help="GB that may wait there; default: until its disk is full."),
    ] = None,
    microscope: Annotated[str, typer.Option(help="Host of AutoScript's own server.")] = "localhost",
    beam: Annotated[str | None, typer.Option(help="Simulated Gatan: address of the beam.")] = None,
    replay: Replay = None,
    latency: Annotated[bool, typer.Option(help="Simulated: be as slow as the instrument.")] = True,
    held: Annotated[bool, typer.Option("--held", hidden=True)] = False,
) -> None:
    """Serve an instrument on its own PC."""
    from bluesky_em.acquisition import instrument_pc as names

    from .. import serve

    spool = spool or Path("~/em-spool").expanduser() / instrument.value
    limit = None if spool_limit is None else int(spool_limit * 1e9)
    if instrument is Instrument.GATAN:
        options = {"beam": beam} if beam else {}
        serve.serve_gatan(
            host, names.EELS_PORT if port is None else port, spool,
            simulate=simulate, replay=replay, latency=latency, spool_limit=limit, held=held,
            **options,
        )  # fmt: skip
    else:
        serve.serve_autoscript(
            host, names.TEM_PORT if port is None else port, spool,
            simulate=simulate, microscope=microscope, latency=latency, spool_limit=limit, held=held,
        )  # fmt: skip
