"""Plans that listen to an analysis, in whatever process it runs, and never wait for it unasked."""

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
"""The name of a result that is to be true (not False, 0, or empty), or a function of all results
of the run, by name."""

_REQUIRED: Any = object()
TIMEOUT = 10.0  # seconds a plan waits for a result, unless it says otherwise


class _Enough(RequestStop):
    """What ends a plan early and well, passing through its clean-up."""

    @property
    def ending(self) -> dict[str, str]:
        """What the run's stop document is to say."""
        return {"exit_status": self.exit_status, "reason": str(self)}


def stop_when(plan: MsgGenerator[P], condition: Condition, data: Data) -> MsgGenerator[P | None]:
    """Run a plan until an analysis says that it is enough.

    Usage:
        RE(stop_when(bp.scan([eels], stage.x, 0, 1e-6, 500), "aligned", data))
        data.publish(run_uid, "aligned", True)     # in the analysis: another process, another PC

    At each checkpoint (in Bluesky's own plans: before each point) the results of the open run are
    looked at, which takes no time. When they say so, the plan's clean-up runs, and the run ends
    with exit status `success`, and with what was published as its reason (unless the clean-up
    fails). An analysis that is slow or dead changes nothing.

    Args:
        plan: with one run open at a time.
        condition: see `Condition`, e.g. `"aligned"`, or `lambda results: results.get("t", 0) > 1`.
        data: where results come to, e.g. `storage.data`.

    Returns:
        What the plan returns; None if it was ended early.
    """
    from tiled import client as _  # noqa: F401 (seconds, and not in the middle of the plan)

    return _stop_when(plan, condition, data)


def _stop_when(plan: MsgGenerator[P], condition: Condition, data: Data) -> MsgGenerator[P | None]:
    results: Results | None = None  # of the run that is open
    enough: _Enough | None = None
    told: Msg | None = None  # comes by here again

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
        nonlocal results, told
        results = None  # a verdict on this run that comes late is none on the next one
        if enough and message.kwargs.get("exit_status") in (None, enough.exit_status):
            message = told = message._replace(kwargs=enough.ending)
        return (yield message)

    def steer(message: Msg) -> tuple[MsgGenerator[Any] | None, None]:
        if message.command == "open_run":
            return opened(message), None
        if message.command == "checkpoint" and not enough:
            return check(message), None
        if message.command == "close_run" and message is not told:
            return closed(message), None
        return None, None

    try:
        return (yield from plan_mutator(plan, steer))  # type: ignore (the plan's own)
    except _Enough as exc:
        if exc is not enough:
            raise  # of a plan round this one
        if results is not None:  # a plan that does not clean up leaves its run open
            yield Msg("close_run", **exc.ending)
        return None


def wait_for_result(
    of: str, name: str, data: Data, *, timeout: float = TIMEOUT, default: Any = _REQUIRED
) -> MsgGenerator[Any]:
    """Have the plan wait for what an analysis publishes, and give it.

    The RunEngine stays responsive: Ctrl-C pauses as usual.

    Args:
        of: the reference it is about, or the uid of a run.
        name: of the result.
        data: where results come to, e.g. `storage.data`.
        timeout: in s.
        default: what to give when nothing has come by then.

    Raises:
        NotReady: nothing has come within `timeout`, and there is no `default`.
    """
    run = Reference.parse(of).run if "/" in of else of

    async def wait() -> Any:
        results = await asyncio.to_thread(data.results, run)  # seconds of imports, the first time
        if await asyncio.to_thread(results.wait, of, name, timeout):
            return results.get(of, name)
        if default is _REQUIRED:
            raise NotReady(
                f"nobody has published {name!r} of {of} within {timeout:g} s: does its analysis "
                f"run? `data.publish({of!r}, {name!r}, …)` publishes it; `default=` goes on without"
            )
        return default

    return (yield from run_async(wait))


def _met(condition: Condition, results: Mapping[str, Any]) -> str:
    """Say why a condition is met; empty if it is not."""
    if isinstance(condition, str):
        return f"{condition}: {results[condition]!r}" if results.get(condition) else ""
    if not condition(results):
        return ""
    said = ", ".join(f"{name}: {value!r}" for name, value in results.items())
    return f"{getattr(condition, '__name__', 'condition')}: {said}"
