"""The names of a session in the worker process of a queue server (RE Manager)."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Mapping
from multiprocessing.util import Finalize
from types import UnionType
from typing import Any, Union, get_args, get_origin

from bluesky_queueserver import parameter_annotation_decorator
from ophyd_async.core import Device

from bluesky_em.data import Data
from bluesky_em.reference import run_of

from .session import Session

logger = logging.getLogger(__name__)

Plan = Callable[..., Any]


def namespace(session: Session) -> dict[str, Any]:
    """Return the names of the worker: those of the session, for requests from other processes.

    A plan that reads data gets the session's. A device is given by its name, and a name that does
    not fit is refused when the plan is added to the queue. The session is closed when the worker
    process ends.
    """
    # a forked process of multiprocessing ends without the functions of `atexit`
    Finalize(session, session.close, exitpriority=0)
    for file, error in session.broken_plans.items():
        logger.warning("plans/%s could not be loaded: %r", file, error)
    plans = {
        name: with_device_names(with_data(plan, session.data), session.devices)
        for name, plan in session.plans.items()
    }

    def references_of(runs: list[str]) -> list[str]:
        """Return the references that these runs have handed out, for `bluesky_em.remote`."""
        return [each for each in session.storage.references if run_of(each) in runs]

    return {**session.namespace(), **plans, "references_of": references_of}


def with_data(plan: Plan, data: Data) -> Plan:
    """Return a plan that gets `data` for its parameter of type `Data`, and no longer shows it."""
    full = inspect.signature(plan)
    given = {name: data for name, each in full.parameters.items() if each.annotation is Data}
    shown = full.replace(parameters=[p for n, p in full.parameters.items() if n not in given])
    if not given:
        return plan

    @functools.wraps(plan)
    def with_these_data(*args: Any, **kwargs: Any) -> Any:
        call = full.bind_partial()
        call.arguments.update(shown.bind(*args, **kwargs).arguments | given)
        return (yield from plan(*call.args, **call.kwargs))

    with_these_data.__signature__ = shown  # type: ignore (any function may have one)
    return with_these_data


def with_device_names(plan: Plan, devices: Mapping[str, Device]) -> Plan:
    """Return a plan that describes to a queue server which devices each parameter takes."""
    parameters: dict[str, Any] = {}
    for name, parameter in inspect.signature(plan).parameters.items():
        is_union = get_origin(parameter.annotation) in (Union, UnionType)
        kinds = get_args(parameter.annotation) if is_union else (parameter.annotation,)
        types = tuple(kind for kind in kinds if kind is not type(None))
        if types and all(isinstance(each, type) and issubclass(each, Device) for each in types):
            fitting = [each for each, device in devices.items() if isinstance(device, types)]
            group = f"devices_for_{name}"
            annotation = group if types == kinds else f"typing.Optional[{group}]"
            parameters[name] = {"annotation": annotation, "devices": {group: fitting}}
    return parameter_annotation_decorator({"parameters": parameters})(plan)
