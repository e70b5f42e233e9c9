"""A microscope session: RunEngine, storage, and the lab's devices and plans."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import bluesky.plan_stubs
import bluesky.plans
from bluesky.preprocessors import SupplementalData
from bluesky.run_engine import RunEngine, get_bluesky_event_loop, set_bluesky_event_loop

from bluesky_em.acquisition.client import close_all
from bluesky_em.data import Data
from bluesky_em.storage.callback import Storage
from bluesky_em.storage.failure_policy import OnFailure

from . import lab
from .connection import connect, reasons
from .live import LiveView
from .progress_line import progress_bars
from .simulated_pcs import SimulatedPCs

BASELINE = ("microscope", "stage")
"""Devices to read at the beginning and the end of every run."""
SIMULATED = "simulated"
"""The devices file for which simulated instrument PCs are started."""


class Session:
    """RunEngine, storage, devices and plans of one microscope; a context manager.

    Args:
        directory: the storage folder.
        devices: name of a file in the lab's `devices/`.
        tiled: address of a Tiled server; None starts an embedded one.
        replay: a recorded spectrum for the simulated spectrometer to serve.
        latency: simulated devices are as slow as the real ones.
        root: the lab's folder; default: `lab.find_lab()`.
        progress: show progress, in a terminal or notebook, while the RunEngine waits.
        on_failure: as for `Storage`: what plans do when storage has failed.
        on_failure_catalog: as for `Storage`: whether cataloguing that stands still is a failure.
        readable: as for `Storage`: folders in which other packages' detectors write.
    """

    def __init__(
        self,
        directory: Path,
        *,
        devices: str = SIMULATED,
        tiled: str | None = None,
        replay: Path | None = None,
        latency: bool = True,
        root: Path | None = None,
        progress: bool = False,
        on_failure: OnFailure | str = OnFailure.CONTINUE,
        on_failure_catalog: bool = False,
        readable: Sequence[str | Path] | None = None,
    ):
        root = root or lab.find_lab()
        self._stack = ExitStack()
        try:
            storage = Storage(
                directory,
                tiled=tiled,
                on_failure=on_failure,
                on_failure_catalog=on_failure_catalog,
                readable=readable,
            )
            self.storage = self._stack.enter_context(storage)
            self.pcs: SimulatedPCs | None = None
            if devices == SIMULATED:
                pcs = SimulatedPCs(self.storage.layout.root, replay=replay, latency=latency)
                self.pcs = self._stack.enter_context(pcs)
            addresses = self.pcs.addresses if self.pcs else {}
            self._stack.callback(close_all)
            self.RE = self._stack.enter_context(run_engine())
            self.token = self.RE.subscribe(self.storage)
            """of the Storage's subscription"""
            self.RE.preprocessors.append(self.storage.guard)
            if progress:
                self.RE.waiting_hook = progress_bars()  # type: ignore (declared as None)
            self.devices = lab.load_devices(
                devices, root, path_provider=self.storage.path_provider, **addresses
            )
            self.live = self._stack.enter_context(closing(LiveView(self.storage.layout)))
            """tables and plots; no plan waits for them"""
            self._connect(devices)
            baseline = [self.devices[name] for name in BASELINE if name in self.devices]
            self.sd = SupplementalData(baseline=baseline)
            """the devices that every run records in its stream `baseline`"""
            self.RE.preprocessors.append(self.sd)
            self.plans, self.broken_plans = lab.load_plans(root)
        except BaseException:
            self._stack.close()
            raise

    @property
    def data(self) -> Data:
        """The reading side."""
        return self.storage.data

    def acquire_eels(self, exposure: float = 0.1, frames: int = 1) -> str:
        """Take a spectrum at the beam's position; return its reference when the exposure ends.

        Args:
            exposure: of one frame, in s.
            frames: summed into the spectrum.
        """
        plan = self.plans["spectrum"](
            self.devices["eels"], self.devices["microscope"], exposure=exposure, frames=frames
        )
        return self.RE(plan).plan_result[0]  # type: ignore

    def acquire_haadf(self, size: int = 512, dwell: float = 1e-6) -> str:
        """Scan a HAADF image; return its reference when the scan ends.

        Args:
            size: pixels along each side.
            dwell: at each pixel, in s.
        """
        plan = self.plans["image"](self.devices["haadf"], size=size, dwell=dwell)
        return self.RE(plan).plan_result[0]  # type: ignore

    def namespace(self) -> dict[str, Any]:
        """Return the names of the interactive session."""
        microscope = self.devices["microscope"]
        microscope.acquire_eels = self.acquire_eels
        microscope.acquire_haadf = self.acquire_haadf
        return {
            "bp": bluesky.plans, "bps": bluesky.plan_stubs, "session": self,
            "RE": self.RE, "sd": self.sd, "storage": self.storage, "data": self.data,
            "live": self.live,
            **self.devices, **self.plans,
        }  # fmt: skip

    def _connect(self, devices: str) -> None:
        errors = connect(self.devices, self.RE.loop)
        if errors:
            found = {reason for error in errors.values() for reason in reasons(error)}
            raise RuntimeError(
                f"devices/{devices}.py: some devices could not be connected.\n"
                + "\n".join(sorted(found))
            )

    def close(self) -> None:
        """Park the instruments and close; the writer finishes in the background."""
        self._stack.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def run_engine() -> Iterator[RunEngine]:
    """Create a RunEngine; at the end, stop its event loop.

    The one before it is again the one in which `init_devices` connects.
    """
    previous = get_bluesky_event_loop()
    engine = RunEngine({}, call_returns_result=True)
    try:
        yield engine
    finally:
        if engine.state == "paused":
            engine.abort("the session was closed")  # runs the plan's clean-up: the beam is blanked
        engine.loop.call_soon_threadsafe(engine.loop.stop)
        engine._th.join()  # noqa: SLF001 (the RunEngine has no close)
        engine.loop.close()
        if get_bluesky_event_loop() is engine.loop:
            set_bluesky_event_loop(previous)
