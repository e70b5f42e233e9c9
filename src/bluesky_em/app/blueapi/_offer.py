"""A plan as blueapi can offer it: with parameters that a request can give."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any, get_type_hints

from blueapi.core import BlueskyContext
from bluesky.utils import MsgGenerator

from bluesky_em.data import Data

logger = logging.getLogger(__name__)

Plan = Callable[..., MsgGenerator[Any]]


def offer(
    plan: Plan, wrap: Callable[[MsgGenerator[Any]], MsgGenerator[Any]], data: Callable[[], Data]
) -> Plan:
    """Return a plan for blueapi to list and to run.

    A parameter of type `Data` is not offered: the plan gets `data()`. Nor is an optional parameter
    whose type no request can give; it keeps its default, and a warning says so.

    Args:
        plan: whose annotations may be text.
        wrap: is put around what the plan yields.
        data: called when the plan is run.

    Raises:
        ValueError: a request cannot give one of the other parameters; the message says which.
        NameError: an annotation cannot be resolved.
    """
    types = get_type_hints(plan)
    parameters = inspect.signature(plan).parameters.values()
    reads = [each.name for each in parameters if types.get(each.name) is Data]
    offered: list[Parameter] = []
    for parameter in parameters:
        if parameter.name in reads:
            continue
        kind = types.get(parameter.name, Parameter.empty)
        parameter = parameter.replace(annotation=kind, kind=Parameter.KEYWORD_ONLY)
        try:
            _try_to_list([parameter])
        except Exception as exc:  # of blueapi or of pydantic
            why = str(exc).partition("\n")[0]
            if parameter.default is Parameter.empty:
                raise ValueError(f"no request can give its {parameter.name!r}: {why}") from exc
            logger.warning(
                "plans/%s.py: %r keeps its default, since no request can give it: %s",
                plan.__name__, parameter.name, why,
                extra={"action": "blueapi"},
            )  # fmt: skip
        else:
            offered.append(parameter)

    @functools.wraps(plan)
    def offered_plan(**arguments: Any) -> MsgGenerator[Any]:
        return (yield from wrap(plan(**arguments, **{name: data() for name in reads})))

    return _declare(offered_plan, offered)


def _try_to_list(parameters: list[Parameter]) -> None:
    """Raise what blueapi would raise for a plan with these parameters, in its list of plans."""

    def plan(**arguments: Any) -> MsgGenerator[Any]: ...  # type: ignore (it is never run)

    context = BlueskyContext(run_engine=None)  # type: ignore (it runs nothing)
    context.register_plan(_declare(plan, parameters))
    context.plans["plan"].model.model_json_schema()


def _declare(plan: Plan, parameters: list[Parameter]) -> Plan:
    """Set the parameters that blueapi and `inspect` see."""
    result = MsgGenerator[Any]
    plan.__signature__ = Signature(parameters, return_annotation=result)  # type: ignore
    plan.__annotations__ = {
        each.name: each.annotation for each in parameters if each.annotation is not Parameter.empty
    } | {"return": result}
    return plan
