"""Plans as a queue server's worker offers them, looked at as the queue server does."""

from pathlib import Path
from typing import Any

import pytest
from bluesky.utils import Msg, MsgGenerator
from bluesky_queueserver.manager.profile_ops import (
    check_if_function_allowed,
    existing_plans_and_devices_from_nspace,
    load_allowed_plans_and_devices,
    load_user_group_permissions,
    validate_plan,
)
from ophyd_async.core import Device, StaticPathProvider, UUIDFilenameProvider

from bluesky_em import Data
from bluesky_em.app import lab
from bluesky_em.app.queue_worker import with_data, with_device_names
from bluesky_em.gatan import DarkField, Spectrometer

ROOT = Path(__file__).parents[3]


def measure(eels: Spectrometer, data: Data, *more: int, adf: DarkField | None = None) -> Any:
    """Return what it was called with."""
    yield Msg("null")
    return eels, data, more, adf


def called(plan: MsgGenerator[Any]) -> Any:
    try:
        while True:
            next(plan)
    except StopIteration as end:
        return end.value


@pytest.fixture
def devices(tmp_path: Path) -> dict[str, Device]:
    paths = StaticPathProvider(UUIDFilenameProvider(), tmp_path)
    return lab.load_devices("two_pc", ROOT, path_provider=paths)  # type: ignore


def test_a_plan_gets_the_data_wherever_that_parameter_is(devices: dict[str, Device]) -> None:
    data: Any = "the session's"
    plan = with_device_names(with_data(measure, data), devices)
    eels, adf = devices["eels"], devices["adf"]
    assert called(plan(eels, 1, 2, adf=adf)) == (eels, data, (1, 2), adf)
    assert called(plan(eels)) == (eels, data, (), None)


def test_a_plan_without_data_is_left_as_it_is() -> None:
    def plan(eels: Spectrometer) -> MsgGenerator[None]:
        yield Msg("null")

    assert with_data(plan, None) is plan  # type: ignore


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        ({"eels": "eels"}, ""),
        ({"eels": "eels", "adf": "adf"}, ""),
        ({"eels": "eels", "adf": None}, ""),
        ({"eels": "adf"}, "Input should be 'eels'"),
        ({"eels": "eels", "adf": "haadf"}, "Input should be 'adf'"),
        ({"eels": "eels", "data": 1}, "unexpected keyword argument 'data'"),
    ],
)
def test_only_devices_that_fit_a_parameter_are_accepted(
    devices: dict[str, Device], arguments: dict[str, Any], refusal: str
) -> None:
    plan = with_device_names(with_data(measure, None), devices)  # type: ignore
    plans, known, *_ = existing_plans_and_devices_from_nspace(nspace={**devices, "measure": plan})
    item = {"name": "measure", "kwargs": arguments}
    accepted, why = validate_plan(item, allowed_plans=plans, allowed_devices=known)
    assert accepted == (not refusal) and refusal in why


def test_the_group_primary_may_run_all_and_observers_nothing(devices: dict[str, Device]) -> None:
    permissions = load_user_group_permissions(
        str(ROOT / "queue_server/user_group_permissions.yaml")
    )
    plans, known, *_ = existing_plans_and_devices_from_nspace(nspace={**devices, "plan": measure})
    allowed, seen = load_allowed_plans_and_devices(
        existing_plans=plans, existing_devices=known, user_group_permissions=permissions
    )
    assert set(allowed["primary"]) == {"plan"} and set(seen["primary"]) == set(devices)
    assert "x" in seen["primary"]["stage"]["components"]
    assert not allowed["observers"] and not seen["observers"]
    for group, may in (("primary", True), ("observers", False)):
        assert may == check_if_function_allowed(
            "references_of", group_name=group, user_group_permissions=permissions
        )
    assert not check_if_function_allowed(
        "exec", group_name="primary", user_group_permissions=permissions
    )


def test_every_plan_of_the_lab_can_be_described(devices: dict[str, Device]) -> None:
    plans, _ = lab.load_plans(ROOT)
    offered = {
        name: with_device_names(with_data(plan, None), devices)  # type: ignore
        for name, plan in plans.items()
    }
    described, *_ = existing_plans_and_devices_from_nspace(nspace={**devices, **offered})
    assert set(described) == set(plans)
    without = {
        (name, each["name"])
        for name, plan in described.items()
        for each in plan["parameters"]
        if "annotation" not in each
    }
    assert without == {("survey_and_map", "choose")}  # a function or its name
