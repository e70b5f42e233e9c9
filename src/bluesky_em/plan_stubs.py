"""The yields that plans share.

Why raw `Msg`s in `per_shot` and `per_step`: the `bps.*` wrappers each record a call stack, which
costs 1.2 ms per event where the messages themselves cost 0.36 ms.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
from bluesky.protocols import Readable
from bluesky.utils import Msg, MsgGenerator, short_uid
from ophyd_async.core import TriggerInfo

from .autoscript import Microscope
from .data import Data
from .detector import RefDetector

P = TypeVar("P")


def per_shot(detectors: Sequence[Readable], stream: str = "primary") -> MsgGenerator[list[str]]:
    """Trigger, wait, read: one event. For `bp.count(..., per_shot=per_shot)`, too.

    Returns:
        The references in the event, one per reference-giving detector.
    """
    yield Msg("checkpoint")
    return (yield from trigger_and_refer(detectors, stream))


def per_step(
    detectors: Sequence[Readable], step: Mapping[Any, Any], pos_cache: dict[Any, Any]
) -> MsgGenerator[list[str]]:
    """Move, trigger, wait, read: one event. For `bp.scan(..., per_step=per_step)` and its like.

    Args:
        detectors: read beside what has moved.
        step: the position of each movable.
        pos_cache: where they are; those that are there already do not move.

    Returns:
        The references in the event, one per reference-giving detector.
    """
    yield Msg("checkpoint")
    group = short_uid("step")
    moving = {movable: to for movable, to in step.items() if pos_cache[movable] != to}
    for movable, to in moving.items():
        yield Msg("set", movable, to, group=group)
        pos_cache[movable] = to
    if moving:
        yield Msg("wait", None, group=group)
    return (yield from trigger_and_refer([*detectors, *step]))


def trigger_and_refer(
    devices: Sequence[Readable], stream: str = "primary"
) -> MsgGenerator[list[str]]:
    """Trigger those devices that can be, wait, and make one event of all.

    Returns:
        The references in the event, one per reference-giving detector.
    """
    group = short_uid("trigger")
    triggered = [device for device in devices if hasattr(device, "trigger")]
    for device in triggered:
        yield Msg("trigger", device, group=group)
    if triggered:
        yield Msg("wait", None, group=group)
    yield Msg("create", None, name=stream)
    references: list[str] = []
    for device in devices:
        reading: Mapping[str, Any] = (yield Msg("read", device)) or {}
        if isinstance(device, RefDetector) and device.name in reading:
            references.append(reading[device.name]["value"])
    yield Msg("save")
    return references


def fly(
    detectors: Sequence[RefDetector],
    info: TriggerInfo,
    stream: str = "primary",
    *,
    period: float = 0.1,
) -> MsgGenerator[list[str]]:
    """Fly detectors together, within a run: all begin, and are collected while they go on.

    Unlike `bps.collect_while_completing` it loses and doubles nothing when the RunEngine pauses: a
    flight is held then, after the row at hand. However the plan ends, what was captured until
    then is in documents.

    Args:
        detectors: of one acquisition server, they begin together; staged by the plan.
        info: for all of them, e.g. `TriggerInfo(number_of_events=100)`, a `MapInfo`, or an
            `UpdateInfo` for a sum or a live view.
        stream: the name of the stream of all of them; several flights may share it.
        period: s between two collections.

    Returns:
        The last reference of each detector: once it is stored, all before are.
    """
    group = short_uid("fly")
    for detector in detectors:
        yield Msg("prepare", detector, info, group=group)
    yield Msg("wait", None, group=group)
    yield Msg("declare_stream", None, *detectors, name=stream, collect=True)
    yield Msg("checkpoint")

    def collect() -> MsgGenerator[None]:
        yield Msg("collect", *detectors, name=stream, return_payload=False)

    def go() -> MsgGenerator[None]:
        for detector in detectors:
            yield Msg("kickoff", detector, group=group)
        yield Msg("wait", None, group=group)
        statuses = []
        for detector in detectors:
            statuses.append((yield Msg("complete", detector, group=group)))
        while True:
            yield Msg("checkpoint")  # what was collected before is not replayed after a pause
            waited = yield Msg("wait", None, group=group, timeout=period, error_on_timeout=False)
            # not what `wait` returned: a pause empties the group
            done = all(status.done for status in statuses)
            yield from collect()
            if done:
                break
            if waited:  # for nothing, then
                yield Msg("checkpoint")
                yield Msg("sleep", None, period)
        for status in statuses:  # a pause has taken them out of the group that `wait` looks at
            if (exc := status.exception()) is not None:
                raise exc

    def land() -> MsgGenerator[None]:
        def stop() -> MsgGenerator[None]:
            for detector in detectors:
                yield Msg("stop", detector)

        yield from bpp.finalize_wrapper(stop(), collect)

    yield from bpp.finalize_wrapper(go(), land)
    return [detector.flown for detector in detectors if detector.flown]


def beam_on(plan: MsgGenerator[P], microscope: Microscope) -> MsgGenerator[P]:
    """Run a plan with the beam on the specimen; blank it however the plan ends."""

    def unblanked() -> MsgGenerator[P]:
        yield from bps.mv(microscope.beam_blanked, False)
        return (yield from plan)

    def blank() -> MsgGenerator[None]:
        yield from bps.mv(microscope.beam_blanked, True)

    return (yield from bpp.finalize_wrapper(unblanked(), blank))


def wait_for(references: str | Sequence[str], data: Data, **options: Any) -> MsgGenerator[None]:
    """Have the plan wait for references, as `data.wait(references, **options)` does.

    The RunEngine stays responsive: Ctrl-C pauses as usual.
    """

    async def wait() -> None:
        await asyncio.to_thread(data.wait, references, **options)

    yield from _run_async(wait)


def preflight(
    detectors: Sequence[RefDetector], frames: int, livetime: float = 0.0
) -> MsgGenerator[None]:
    """Find out before a run begins whether its frames will fit; changes nothing.

    Args:
        detectors: set up as for the run.
        frames: how many each will take.
        livetime: of each, in s, if they are to fly; 0: as they are set.

    Raises:
        NotEnoughSpace: the storage disk has not so much free, or cannot be written.
        ValueError: a frame is larger than its spool.
    """
    for detector in detectors:
        yield from _run_async(partial(detector.preflight, frames, livetime))


def _run_async(function: Callable[[], Awaitable[None]]) -> MsgGenerator[None]:
    """Await something; unlike `bps.wait_for` alone, raise in the plan what it raises."""
    (task,) = yield from bps.wait_for([function])
    task.result()
