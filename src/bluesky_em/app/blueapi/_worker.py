"""Storage, devices and plans of one microscope in the worker process of a blueapi server."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, TypeVar

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
from blueapi.service import interface
from bluesky.run_engine import RunEngine, get_bluesky_event_loop
from bluesky.utils import MsgGenerator

from bluesky_em.acquisition.client import close_all
from bluesky_em.storage.callback import Storage
from bluesky_em.storage.failure_policy import OnFailure

from .. import lab
from ..connection import CONNECT_TIMEOUT, connect
from ..session import BASELINE, SIMULATED
from ..simulated_pcs import SimulatedPCs
from ._offer import Plan, offer

logger = logging.getLogger(__name__)

P = TypeVar("P")

ABORT_TIMEOUT = 30.0  # s for a plan's clean-up


@dataclass(frozen=True, kw_only=True)
class Connected:
    """What blueapi asks a device manager for."""

    devices: dict[str, Any]
    build_errors: dict[str, BaseException] = field(default_factory=dict)
    connection_errors: dict[str, BaseException]


def sources(directory: str | Path, **options: Any) -> dict[str, Any]:
    """Return the names of a module that blueapi takes devices and plans from.

    Usage, in a module that blueapi's configuration names as `deviceManager` and `planFunctions`:
        globals().update(sources("~/em-data", devices="two_pc"))

    Args:
        directory: the storage folder.
        options: as for `Worker`.

    Raises:
        RuntimeError: blueapi's own Tiled writer is on.
    """
    worker = Worker(directory, **options)
    plans = worker.plans()
    return {"devices": worker, **plans, "__all__": [*plans]}


class Worker:
    """Storage, devices and plans of one microscope; for blueapi a device manager.

    Storage is opened, and simulated instrument PCs are started, when blueapi builds the devices.

    Args:
        directory: the storage folder.
        devices: name of a file in the lab's `devices/`.
        tiled: address of a Tiled server; None starts an embedded one.
        root: the lab's folder; default: `lab.find_lab()`.
        on_failure: as for `Storage`: what plans do when storage has failed.
        on_failure_catalog: as for `Storage`: whether cataloguing that stands still is a failure.

    Raises:
        RuntimeError: blueapi's own Tiled writer is on.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        devices: str = SIMULATED,
        tiled: str | None = None,
        root: Path | None = None,
        on_failure: OnFailure | str = OnFailure.CONTINUE,
        on_failure_catalog: bool = False,
    ):
        _refuse_other_writer()
        self._file = devices
        self._root = root or lab.find_lab()
        self._open_storage = lambda: Storage(
            directory, tiled=tiled, on_failure=on_failure, on_failure_catalog=on_failure_catalog
        )
        self._stack = ExitStack()
        self._engine: RunEngine | None = None
        self._plan_ended = threading.Event()
        self.devices: dict[str, Any] = {}
        """those that are connected"""

    @cached_property
    def storage(self) -> Storage:
        """The storage, opened when it is needed first."""
        return self._stack.enter_context(self._open_storage())

    def build_and_connect(
        self,
        *,
        mock: bool = False,
        timeout: float | None = None,
        fixtures: Mapping[str, Any] | None = None,
    ) -> Connected:
        """Create and connect the devices, when blueapi has its RunEngine.

        Args:
            mock: connect each to a mock in place of its instrument.
            timeout: for all together, in s; None: 60.
            fixtures: not used: frames are stored in the storage folder.
        """
        self._close_with_process()
        storage, addresses = self.storage, dict[str, str]()
        if self._file == SIMULATED:
            addresses = self._stack.enter_context(SimulatedPCs(storage.layout.root)).addresses
        self._stack.callback(close_all)
        provider = storage.path_provider
        devices = lab.load_devices(self._file, self._root, path_provider=provider, **addresses)
        loop = get_bluesky_event_loop()
        assert loop is not None  # of blueapi's RunEngine
        errors = connect(devices, loop, mock=mock, timeout=timeout or CONNECT_TIMEOUT)
        self.devices = {name: each for name, each in devices.items() if name not in errors}
        return Connected(devices=self.devices, connection_errors=errors)

    def plans(self) -> dict[str, Plan]:
        """Return the plans of `plans/` that blueapi can offer; log why others are left out."""
        loaded, broken = lab.load_plans(self._root)
        reasons: dict[str, Exception] = {Path(file).stem: exc for file, exc in broken.items()}
        offered: dict[str, Plan] = {}
        for name, plan in loaded.items():
            try:
                offered[name] = offer(plan, self.with_storage, lambda: self.storage.data)
            except Exception as exc:  # of any kind: the plan is the user's
                reasons[name] = exc
        for name, reason in reasons.items():
            logger.error(
                "plans/%s.py is not offered: %s: %s", name, type(reason).__name__, reason,
                extra={"action": "blueapi"},
            )  # fmt: skip
        return offered

    def with_storage(self, plan: MsgGenerator[P]) -> MsgGenerator[P]:
        """Wrap a plan: its documents are stored, its runs have a baseline, and it is guarded.

        The RunEngine ends the subscription after it has closed the plan's runs.
        """
        self._engine = interface.context().run_engine
        self._plan_ended.clear()
        try:
            yield from bps.subscribe("all", self.storage)
            baseline = [self.devices[name] for name in BASELINE if name in self.devices]
            guarded = self.storage.guard(plan)
            return (yield from bpp.baseline_wrapper(guarded, baseline))  # type: ignore (its result)
        finally:
            self._plan_ended.set()

    def close(self) -> None:
        """Abort the plan, so that its clean-up blanks the beam; then close. Twice is harmless."""
        if self._engine is not None and self._engine.state != "idle":
            self._engine.abort("blueapi's worker process ends")
            if not self._plan_ended.wait(ABORT_TIMEOUT):
                logger.error(
                    "the plan has not ended %g s after it was aborted: the beam may be ON",
                    ABORT_TIMEOUT, extra={"action": "blueapi"},
                )  # fmt: skip
        self._stack.close()

    def _close_with_process(self) -> None:
        """Close when blueapi ends this process, with or without a signal."""

        def end() -> None:
            self.close()
            server = multiprocessing.parent_process()
            if server is not None and not server.is_alive():
                os._exit(1)  # a thread of blueapi's would wait for its next task forever

        # `atexit` does not run in every process of multiprocessing
        Finalize(self, end, exitpriority=0)
        earlier = signal.getsignal(signal.SIGTERM)

        def close(number: int, _: object) -> None:
            self.close()
            signal.signal(number, earlier)
            signal.raise_signal(number)

        signal.signal(signal.SIGTERM, close)


def _refuse_other_writer() -> None:
    tiled = interface.config().tiled
    if tiled.enabled:
        raise RuntimeError(
            f"blueapi's own Tiled writer is on (`tiled: enabled: true`, url {tiled.url}). It would "
            "send references before their frames are stored. Set `tiled: enabled: false`: Storage "
            "sends all documents to Tiled, to yours with sources(..., tiled='https://tiled-host')"
        )
