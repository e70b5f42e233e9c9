"""The reaction of plans when storage has failed."""

from __future__ import annotations

import logging
from typing import TypeVar

import bluesky.preprocessors as bpp
from bluesky.utils import Msg, MsgGenerator

from bluesky_em.errors import StorageFailed

from .failure_monitor import FailureMonitor
from .failure_policy import OnFailure

logger = logging.getLogger(__name__)

P = TypeVar("P")


class PlanGuard:
    """Wraps plans so that they react at their checkpoints.

    Args:
        monitor: knows whether storage has failed.
        policy: what a plan does then.
    """

    def __init__(self, monitor: FailureMonitor, policy: OnFailure):
        self.policy = policy
        self._monitor = monitor
        self._used = policy is OnFailure.CONTINUE

    def __call__(self, plan: MsgGenerator[P]) -> MsgGenerator[P]:
        """Wrap a plan.

        Raises:
            StorageFailed: within the plan, if it is to end; its clean-up runs.
        """
        self._used = True
        if self.policy is OnFailure.CONTINUE:
            return (yield from plan)

        def at_checkpoint(msg: Msg) -> tuple[MsgGenerator[None] | None, None]:
            failed = msg.command == "checkpoint" and self._monitor.failure
            return (self._react(), None) if failed else (None, None)

        return (yield from bpp.plan_mutator(plan, at_checkpoint))  # type: ignore (the plan's own result)

    def warn_if_unused(self) -> None:
        """Log a warning if no plan has been wrapped, though plans are to react."""
        if not self._used:
            logger.warning(
                "on_failure=%r has no effect: RE.preprocessors.append(storage.guard) is missing",
                str(self.policy),
                extra={"action": "guard"},
            )  # fmt: skip

    def _react(self) -> MsgGenerator[None]:
        failure = self._monitor.failure
        self._monitor.acknowledge()
        if self.policy is OnFailure.ABORT:
            raise StorageFailed(f"{failure}. What was measured until now is safe")
        print(f"Paused, since storage has failed: {failure}. RE.resume() continues nevertheless")
        yield Msg("pause")
