"""Measurements from another PC or process, through the lab's queue server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

from .errors import PlanFailed, PlanNotDone, QueueRefused, QueueUnreachable, require

require("bluesky_queueserver_api")

from bluesky_queueserver_api import BFunc, BPlan
from bluesky_queueserver_api.comm_base import RequestFailedError, RequestTimeoutError
from bluesky_queueserver_api.zmq import REManagerAPI

ADDRESS = "tcp://localhost:60615"
REQUEST_TIMEOUT = 5.0  # s for the answer to each request
POLLING_INTERVAL = 0.1  # s between two looks at the queue server's status
ANSWER_TIMEOUT = 10.0  # s for the references of a plan that has ended

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class PlanResult:
    """What a plan has measured; `data.wait` takes each of these names."""

    references: list[str]
    """in the order in which they were handed out; of a fly scan, the last one of each document"""
    runs: list[str]
    """uids"""


class Microscope:
    """The microscope behind a queue server (RE Manager) that runs `queue_server/00_session.py`.

    Usage:
        microscope = remote.Microscope("tcp://control-pc:60615")
        data = Data("http://control-pc:8000", api_key="…")
        reference = microscope.acquire_eels(exposure=0.1)
        data.wait(reference)
        data.open(reference).to_xarray().plot()
        microscope.run("line_scan", points=20).references

    Each call runs its plan at once, and returns within a second after its end. Only an idle queue
    server accepts it; `qserver queue add plan` adds plans to its queue.

    Args:
        address: of the queue server.
        public_key: of the queue server, if it has keys.
        group: of users, in `user_group_permissions.yaml`.
        timeout: longest wait for the end of a plan, in s; the plan itself is not ended.
    """

    def __init__(
        self,
        address: str = ADDRESS,
        *,
        public_key: str | None = None,
        group: str = "primary",
        timeout: float = 600.0,
    ):
        self._address = address
        self._timeout = timeout
        self._api: Any = REManagerAPI(  # its annotations want whole seconds
            zmq_control_addr=address,
            zmq_public_key=public_key,
            timeout_recv=REQUEST_TIMEOUT,
            status_polling_period=POLLING_INTERVAL,
            status_expiration_period=POLLING_INTERVAL,
        )
        self._api.user_group = group

    def acquire_eels(self, exposure: float = 0.1, frames: int = 1) -> str:
        """Take a spectrum at the beam's position; return its reference when the exposure ends.

        Args:
            exposure: of one frame, in s.
            frames: summed into the spectrum.

        Raises:
            QueueUnreachable: as `run` does.
            QueueRefused: as `run` does.
            PlanFailed: as `run` does.
            PlanNotDone: as `run` does.
        """
        options = {"microscope": "microscope", "exposure": exposure, "frames": frames}
        return self.run("spectrum", **options).references[-1]

    def acquire_haadf(self, size: int = 512, dwell: float = 1e-6) -> str:
        """Scan a HAADF image; return its reference when the scan ends.

        Args:
            size: pixels along each side.
            dwell: at each pixel, in s.

        Raises:
            QueueUnreachable: as `run` does.
            QueueRefused: as `run` does.
            PlanFailed: as `run` does.
            PlanNotDone: as `run` does.
        """
        return self.run("image", size=size, dwell=dwell).references[-1]

    def run(self, plan: str, /, **arguments: Any) -> PlanResult:
        """Run a plan, wait for its end, and return what it has measured.

        Args:
            plan: its name, e.g. "line_scan".
            arguments: of the plan; devices by their names. A device that is the only one of its
                kind need not be given.

        Raises:
            QueueUnreachable: no queue server answers; when the plan has ended before, the message
                gives its runs.
            QueueRefused: it is busy, its environment is closed, or the plan or an argument is not
                what it takes; nothing was done.
            PlanFailed: the plan has failed or was stopped; the message gives the reason.
            PlanNotDone: the plan has not ended within the timeout, or it is paused.
        """
        self._check_idle()
        item = BPlan(plan, **{**self._only_devices(plan), **arguments})
        uid = self._ask(lambda: self._api.item_execute(item))["item"]["item_uid"]
        runs = self._wait(plan, uid)["run_uids"]
        return PlanResult(references=self._references_of(plan, runs) if runs else [], runs=runs)

    def _check_idle(self) -> None:
        status = self._status()
        if not status["worker_environment_exists"]:
            raise QueueRefused(
                f"the queue server at {self._address} has no session: its environment is closed. "
                "`qserver environment open` opens it"
            )
        if status["manager_state"] != "idle":
            raise QueueRefused(
                f"the queue server at {self._address} is busy ({status['manager_state']}; "
                f"{status['items_in_queue']} plans in its queue). Wait until it is idle, or add "
                "the plan to its queue: `qserver queue add plan`"
            )

    def _only_devices(self, plan: str) -> dict[str, str]:
        """Return the names of the devices for which a plan leaves no choice."""
        plans = self._ask(self._api.plans_allowed)["plans_allowed"]
        if plan not in plans:
            raise QueueRefused(
                f"the queue server at {self._address} has no plan {plan!r} for you; it has: "
                f"{', '.join(sorted(plans)) or 'none'}"
            )
        devices: dict[str, str] = {}
        for parameter in plans[plan].get("parameters", []):
            fitting = parameter.get("annotation", {}).get("devices", {}).values()
            names = [name for group in fitting for name in group]
            if "default" not in parameter and len(names) == 1:
                devices[parameter["name"]] = names[0]
        return devices

    def _wait(self, plan: str, uid: str) -> Mapping[str, Any]:
        """Wait until a plan has ended, and return its result in the queue server's history."""
        begun = False

        def has_ended(status: Mapping[str, Any]) -> bool:
            nonlocal begun
            running = status["running_item_uid"] == uid
            begun = begun or running
            return status["manager_state"] in ("idle", "paused") or (begun and not running)

        try:
            self._api.wait_for_condition(has_ended, timeout=self._timeout)
        except self._api.WaitTimeoutError as exc:
            raise PlanNotDone(
                f"{plan} has not ended within {self._timeout:g} s, and continues: {self._seen()}. "
                "`qserver re pause immediate` and then `qserver re abort` would end it"
            ) from exc
        history = self._ask(lambda: self._api.history_get(reload=True))["items"]
        result = next((each["result"] for each in history if each["item_uid"] == uid), None)
        if result is None:
            raise PlanNotDone(
                f"{plan} has not ended: {self._seen()}. `qserver re resume` continues a plan that "
                "is paused, `qserver re abort` ends it"
            )
        if result["exit_status"] != "completed":
            raise PlanFailed(f"{plan}: {result['exit_status']}. {result['msg']}")
        return result

    def _references_of(self, plan: str, runs: list[str]) -> list[str]:
        function = BFunc("references_of", runs)
        try:
            task = self._ask(lambda: self._api.function_execute(function, run_in_background=True))
            uid = task["task_uid"]
            self._ask(lambda: self._api.wait_for_completed_task(uid, timeout=ANSWER_TIMEOUT))
            answer = self._ask(lambda: self._api.task_result(uid))["result"]
            if answer["success"]:
                return answer["return_value"]
            why = answer["msg"]
        except (QueueRefused, QueueUnreachable, self._api.WaitTimeoutError) as exc:
            why = str(exc)
        raise QueueUnreachable(
            f"{plan} has ended, but the queue server at {self._address} has not named its "
            f"references: {why}. `data.wait` takes its runs, too: {', '.join(runs)}"
        )

    def _seen(self) -> str:
        """Return the queue server's state in words, or that it does not answer."""
        try:
            return f"the queue server at {self._address} is {self._status()['manager_state']}"
        except QueueUnreachable as exc:
            return str(exc)

    def _status(self) -> Mapping[str, Any]:
        return self._ask(lambda: self._api.status(reload=True))

    def _ask(self, request: Callable[[], T]) -> T:
        try:
            return request()
        except RequestTimeoutError as exc:
            raise QueueUnreachable(
                f"no queue server answers at {self._address}: does `start-re-manager` run there, "
                "with this --zmq-control-addr, and with the keys of this client?"
            ) from exc
        except RequestFailedError as exc:
            raise QueueRefused(f"the queue server at {self._address}: {exc}") from exc

    def close(self) -> None:
        """Close the connection; closing twice is harmless."""
        self._api.close()

    def __enter__(self) -> Microscope:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()
