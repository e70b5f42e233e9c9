"""A fly scan of several detectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import bluesky.preprocessors as bpp
from bluesky.utils import Msg, MsgGenerator, short_uid
from ophyd_async.core import TriggerInfo

from bluesky_em.detector import RefDetector


def fly(
    detectors: Sequence[RefDetector],
    info: TriggerInfo,
    stream: str = "primary",
    *,
    period: float = 0.1,
) -> MsgGenerator[list[str]]:
    """Fly detectors together, within a run; collect while they take frames.

    Unlike `bps.collect_while_completing` it neither loses nor repeats frames when the RunEngine
    pauses: the fly scan is held after its current row. However the plan ends, all frames captured
    until then are in documents.

    Args:
        detectors: those of one acquisition server begin together; staged by the plan.
        info: for all detectors, e.g. `TriggerInfo(number_of_events=100)`, a `MapInfo`, or an
            `UpdateInfo` for a sum or a live view.
        stream: the name of their common stream; several fly scans may share it.
        period: s between two collections.

    Returns:
        The last reference of each detector: once it is stored, all earlier ones are, too.
    """
    group = short_uid("fly")
    for detector in detectors:
        yield Msg("prepare", detector, info, group=group)
    yield Msg("wait", None, group=group)
    yield Msg("declare_stream", None, *detectors, name=stream, collect=True)
    yield Msg("checkpoint")

    def collect() -> MsgGenerator[None]:
        yield Msg("collect", *detectors, name=stream, return_payload=False)

    def finish() -> MsgGenerator[None]:
        def stop() -> MsgGenerator[None]:
            for detector in detectors:
                yield Msg("stop", detector)

        yield from bpp.finalize_wrapper(stop(), collect)

    yield from bpp.finalize_wrapper(_take(detectors, collect, group, period), finish)
    return [detector.flown for detector in detectors if detector.flown]


def _take(
    detectors: Sequence[RefDetector],
    collect: Callable[[], MsgGenerator[None]],
    group: str,
    period: float,
) -> MsgGenerator[None]:
    """Kick the detectors off, and collect until all are done."""
    for detector in detectors:
        yield Msg("kickoff", detector, group=group)
    yield Msg("wait", None, group=group)
    statuses = []
    for detector in detectors:
        statuses.append((yield Msg("complete", detector, group=group)))
    while True:
        yield Msg("checkpoint")  # a pause does not repeat what was collected before
        waited = yield Msg("wait", None, group=group, timeout=period, error_on_timeout=False)
        # `wait` cannot tell: a pause empties the group
        done = all(status.done for status in statuses)
        yield from collect()
        if done:
            break
        if waited:  # it returned at once: the group was empty
            yield Msg("checkpoint")
            yield Msg("sleep", None, period)
    for status in statuses:  # a pause has taken them out of the group that `wait` looks at
        if (exc := status.exception()) is not None:
            raise exc
