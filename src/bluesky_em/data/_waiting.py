"""Waiting for references and runs."""

from __future__ import annotations

import time
from typing import Literal, Protocol

from bluesky_em.errors import NotReady, ReferenceFailed
from bluesky_em.reference import ReferenceState

from ._full_names import full_reference, full_uid
from ._progress import progress_bar
from ._reference_status import ReferenceStatus
from ._tiled_connection import ask_until

OnFailed = Literal["raise", "return"]


class StatusSource(Protocol):
    """A place where the state of references and runs is looked up."""

    @property
    def poll(self) -> float:
        """Time between two queries while waiting, s."""
        ...

    def statuses(self, references: list[str]) -> list[ReferenceStatus]:
        """Return the status of each reference."""
        ...

    def full_uid(self, beginning: str) -> str:
        """Return the uid of the run that begins so; `beginning` if none does."""
        ...

    def run_complete(self, run: str) -> bool:
        """Return whether every reference of a run has ended."""
        ...

    def run_remark(self, run: str) -> str:
        """Return in words how complete a complete run is."""
        ...

    def explain(self, status: ReferenceStatus) -> str:
        """Describe what a reference waits for."""
        ...


class Waiting:
    """Wait until references, or a run, have reached a state; see `Data.wait`.

    Args:
        source: where their state is looked up.
    """

    def __init__(self, source: StatusSource):
        self._source = source

    def for_references(
        self, references: list[str], until: ReferenceState, timeout: float, *, first_only: bool,
        failed: OnFailed, progress: bool,
    ) -> list[ReferenceStatus]:  # fmt: skip
        """Wait for all references, or with `first_only` for one; return those that are done.

        Raises:
            NotReady: they were not done within `timeout` seconds.
            TiledUnreachable: Tiled was still away then.
            ReferenceFailed: a frame is lost, and `failed` is "raise".
            UnknownReference: no run has handed it out.
        """
        deadline = time.monotonic() + timeout
        find = self._source.full_uid
        wanted = ask_until(deadline, lambda: [full_reference(each, find) for each in references])
        with progress_bar(len(wanted), progress) as show:
            while True:
                done: list[ReferenceStatus] = []
                pending: list[ReferenceStatus] = []
                for status in ask_until(deadline, lambda: self._source.statuses(wanted)):
                    (done if is_done(status, until, failed) else pending).append(status)
                show(len(done))
                if not pending or (first_only and done):
                    return done
                if time.monotonic() >= deadline:
                    more = f" (and {len(pending) - 1} more)" if len(pending) > 1 else ""
                    raise NotReady(
                        f"{pending[0]}{more}; not {until.value} within {timeout:g} s, "
                        f"{self._source.explain(pending[0])}"
                    )
                time.sleep(self._source.poll)

    def for_run(self, run: str, timeout: float) -> ReferenceStatus:
        """Wait until a run is complete.

        Raises:
            NotReady: it was not complete within `timeout` seconds.
            TiledUnreachable: Tiled was still away then.
            UnknownReference: there is no such run.
        """
        deadline = time.monotonic() + timeout
        uid = ask_until(deadline, lambda: full_uid(run, self._source.full_uid))
        while not ask_until(deadline, lambda: self._source.run_complete(uid)):
            if time.monotonic() >= deadline:
                explained = self._source.explain(ReferenceStatus(reference=uid, stage=None))
                raise NotReady(f"run {uid} is not complete after {timeout:g} s; {explained}")
            time.sleep(self._source.poll)
        remark = ask_until(deadline, lambda: self._source.run_remark(uid))
        return ReferenceStatus(reference=uid, stage=ReferenceState.CATALOGUED, remark=remark)


def is_done(status: ReferenceStatus, until: ReferenceState, failed: OnFailed) -> bool:
    """Return whether a reference has reached a state, or has failed.

    Raises:
        ReferenceFailed: it has failed, and `failed` is "raise".
    """
    if status.stage is ReferenceState.FAILED:
        if failed == "raise":
            raise ReferenceFailed(str(status))
        return True
    return status.stage is not None and status.stage.reached(until)
