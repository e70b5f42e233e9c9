"""Acquisition servers for the command line: with the vendor's module, or a simulated one."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bluesky_em.acquisition.instrument_pc import (
    EELS,
    TEM,
    TEM_PORT,
    VendorModuleMissing,
    autoscript_driver,
    gatan_driver,
)
from bluesky_em.acquisition.instrument_pc.server import serve
from bluesky_em.storage import processes

BEAM = "beam"
"""Pyro name of the simulated beam, served at the simulated microscope's address."""


def serve_gatan(
    host: str,
    port: int,
    spool: Path,
    *,
    simulate: bool = False,
    beam: str = f"PYRO:{BEAM}@127.0.0.1:{TEM_PORT}",
    replay: Path | None = None,
    latency: bool = True,
    spool_limit: int | None = None,
    held: bool = False,
) -> None:
    """Serve the spectrometer until interrupted.

    Args:
        host: the interface to listen on.
        port: 0 for any free one.
        spool: folder for waiting frames.
        simulate: use the simulated DigitalMicrograph.
        beam: address of the simulated beam, which determines the simulated spectra.
        replay: serve this recorded spectrum (`.dm3`, `.dm4`) instead of simulated ones.
        latency: be as slow as the real instrument.
        spool_limit: bytes that may wait in the spool; None: until its disk is nearly full.
        held: stop when standard input ends.
    """
    if simulate:
        from bluesky_em.acquisition import sim
        from bluesky_em.acquisition.instrument_pc.gatan.driver import SpectrometerDriver

        recording = sim.Recording(replay) if replay else None
        module = sim.digital_micrograph(
            beam=sim.RemoteBeam(beam), latency=latency, recording=recording
        )
        lines = None if recording else sim.LineReader(module)
        driver = SpectrometerDriver(module, scan_range=sim.SCAN_RANGE, read_line=lines)
    else:
        driver = _real(gatan_driver)
    _serve(driver, EELS, host, port, spool, {}, spool_limit, held)


def serve_autoscript(
    host: str,
    port: int,
    spool: Path,
    *,
    simulate: bool = False,
    microscope: str = "localhost",
    latency: bool = True,
    spool_limit: int | None = None,
    held: bool = False,
) -> None:
    """Serve the microscope until interrupted.

    Args:
        host: the interface to listen on.
        port: 0 for any free one.
        spool: folder for waiting frames.
        simulate: use the simulated AutoScript.
        microscope: host of the AutoScript server.
        latency: be as slow as the real instrument.
        spool_limit: bytes that may wait in the spool; None: until its disk is nearly full.
        held: stop when standard input ends.
    """
    extra: dict[str, Any] = {}
    if simulate:
        from bluesky_em.acquisition import sim
        from bluesky_em.acquisition.instrument_pc.autoscript.driver import MicroscopeDriver

        extra[BEAM] = beam = sim.Beam()
        driver = MicroscopeDriver(sim.autoscript(beam=beam, latency=latency), host=microscope)
    else:
        driver = _real(autoscript_driver, microscope)
    _serve(driver, TEM, host, port, spool, extra, spool_limit, held)


def _real(create: Callable[..., Any], *args: Any) -> Any:
    try:
        return create(*args)
    except VendorModuleMissing as exc:
        raise RuntimeError(f"{exc}, or add --simulate") from exc


def _serve(
    driver: Any,
    name: str,
    host: str,
    port: int,
    spool: Path,
    extra: dict[str, Any],
    spool_limit: int | None,
    held: bool,
) -> None:
    def started(uri: str, stop: Callable[[], None]) -> None:
        print(f"{name} is ready: {uri}", flush=True)
        if held:
            processes.on_parent_exit(lambda _: stop())

    # SIGTERM must run `finally` clauses, where the beam is blanked
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    serve(driver, name, host, port, str(spool), extra, started, spool_limit)
