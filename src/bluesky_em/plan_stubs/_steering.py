"""Stop or inform a plan by results of an analysis in another process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from bluesky.preprocessors import plan_mutator
from bluesky.utils import Msg, MsgGenerator, RequestStop

from bluesky_em.data import Data, Results
from bluesky_em.errors import NotReady
from bluesky_em.reference import Reference

from ._waiting import run_async

P = TypeVar("P")
Condition = str | Callable[[Mapping[str, Any]], bool]
"""The name of a result that must be true (not False, 0, or empty), or a function of all results
of the run, by name."""

_REQUIRED: Any = object()
DEFAULT_TIMEOUT = 10.0  # seconds that a plan waits for a result


class _Enough(RequestStop):
    """Ends a plan early with success, through its clean-up."""

    @property
    def stop_fields(self) -> dict[str, str]:
        """The exit status and reason for the run's stop document."""
        return {"exit_status": self.exit_status, "reason": str(self)}


def stop_when(plan: MsgGenerator[P], condition: Condition, data: Data) -> MsgGenerator[P | None]:
    """Run a plan until the results of an analysis meet a condition.

    Usage:
        RE(stop_when(bp.scan([eels], stage.x, 0, 1e-6, 500), "aligned", data))
        data.publish(run_uid, "aligned", True)     # in the analysis: another process, another PC

    At each checkpoint (in Bluesky's own plans: before each point) the results of the open run are
    checked, which takes no time. When they meet the condition, the plan's clean-up runs, and the
    run ends with exit status `success` and the published result as its reason (unless the clean-up
    fails). An analysis that is slow or dead changes nothing.

    Args:
        plan: with one run open at a time.
        condition: see `Condition`, e.g. `"aligned"`, or `lambda results: results.get("t", 0) > 1`.
        data: receives the results, e.g. `storage.data`.

    Returns:
        The plan's return value; None if it was ended early.
    """
    from tiled import client as _  # noqa: F401 (takes seconds: not in the middle of the plan)

    return _stop_when(plan, condition, data)


def _stop_when(plan: MsgGenerator[P], condition: Condition, data: Data) -> MsgGenerator[P | None]:
    results: Results | None = None  # of the run that is open
    enough: _Enough | None = None
    stopped: Msg | None = None  # this function receives it a second time

    def opened(message: Msg) -> MsgGenerator[str]:
        nonlocal results
        run: str = yield message
        results = data.results(run)
        return run

    def check(message: Msg) -> MsgGenerator[None]:
        nonlocal enough
        if results is not None and (reason := _met(condition, results.latest)):
            enough = _Enough(reason)
            raise enough
        yield message

    def closed(message: Msg) -> MsgGenerator[str]:
        nonlocal results, stopped
        results = None  # a late result of this run must not end the next one
        if enough and message.kwargs.get("exit_status") in (None, enough.exit_status):
            message = stopped = message._replace(kwargs=enough.stop_fields)
        return (yield message)

    def steer(message: Msg) -> tuple[MsgGenerator[Any] | None, None]:
        if message.command == "open_run":
            return opened(message), None
        if message.command == "checkpoint" and not enough:
            return check(message), None
        if message.command == "close_run" and message is not stopped:
            return closed(message), None
        return None, None

    try:
        return (yield from plan_mutator(plan, steer))  # type: ignore (the plan's own)
    except _Enough as exc:
        if exc is not enough:
            raise  # it belongs to an enclosing `stop_when`
        if results is not None:  # a plan without a clean-up leaves its run open
            yield Msg("close_run", **exc.stop_fields)
        return None


def wait_for_result(
    of: str, name: str, data: Data, *, timeout: float = DEFAULT_TIMEOUT, default: Any = _REQUIRED
) -> MsgGenerator[Any]:
    """Wait, within a plan, for a result of an analysis, and return it.

    The RunEngine stays responsive: Ctrl-C pauses as usual.

    Args:
        of: the reference, or the uid of the run, that the result belongs to.
        name: of the result.
        data: receives the results, e.g. `storage.data`.
        timeout: in s.
        default: returned when there is no result by then.

    Raises:
        NotReady: there is no result within `timeout`, and no `default`.
    """
    run = Reference.parse(of).run if "/" in of else of

    async def wait() -> Any:
        results = await asyncio.to_thread(data.results, run)  # seconds of imports, the first time
        if await asyncio.to_thread(results.wait, of, name, timeout):
            return results.get(of, name)
        if default is _REQUIRED:
            raise NotReady(
                f"no process has published {name!r} of {of} within {timeout:g} s: does its "
                f"analysis run? `data.publish({of!r}, {name!r}, …)` publishes it; with `default=` "
                "the plan continues without it"
            )
        return default

    return (yield from run_async(wait))


def _met(condition: Condition, results: Mapping[str, Any]) -> str:
    """Return why a condition is met; empty if it is not."""
    if isinstance(condition, str):
        return f"{condition}: {results[condition]!r}" if results.get(condition) else ""
    if not condition(results):
        return ""
    values = ", ".join(f"{name}: {value!r}" for name, value in results.items())
    return f"{getattr(condition, '__name__', 'condition')}: {values}"
