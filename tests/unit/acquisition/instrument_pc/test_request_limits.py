"""Requests that no control PC sends by mistake are answered with a sentence, at once."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bluesky_em.acquisition.client._client import Client
from bluesky_em.acquisition.instrument_pc import request_limits as limits
from tests.support.fake_server import FakeDriver, calling, served

SCAN = {"shape": [2, 2], "region": [0.0, 0.0, 1.0, 1.0], "sync": "hardware"}
ORDER = {
    "base": "run.eels", "first": 0, "frames": 4, "duration": 0.1, "options": {}, "scan": None,
}  # fmt: skip
LONG = "r" * (limits.REFERENCE_LIMIT + 1)


@pytest.fixture
def driver() -> FakeDriver:
    return FakeDriver()


@pytest.fixture
def client(driver: FakeDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.delenv("BLUESKY_EM_TOKEN", raising=False)
    with served(driver, tmp_path / "spool") as uri, calling(uri) as client:
        yield client


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("expose", ["eels", {}]), ("keep", []), ("header", []), ("fetch", [0, 10]),
    ],
)  # fmt: skip
def test_a_reference_may_have_512_characters_and_no_more(
    client: Client, driver: FakeDriver, method: str, arguments: list[Any]
) -> None:
    with pytest.raises(ValueError, match="reference has 513 characters.*give at most 512"):
        client.call(method, LONG, *arguments)
    with pytest.raises(TypeError, match="reference is 17; give text"):
        client.call(method, 17, *arguments)
    assert driver.calls == []


def test_a_reference_of_512_characters_is_taken(client: Client) -> None:
    client.call("expose", LONG[:-1], "eels", {})
    assert client.call("references") == [LONG[:-1]]


def test_a_reference_of_10_megabytes_is_not_sent_back(client: Client) -> None:
    with pytest.raises(ValueError) as refused:
        client.call("expose", "r" * 10_000_000, "eels", {})
    assert len(str(refused.value)) < 200


def test_only_lists_of_references_are_released(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TypeError, match=r"references are 'run\.eels/0'; give a list of text"):
        client.call("release", "run.eels/0")
    with pytest.raises(ValueError, match="reference has 513 characters"):
        client.call("release", ["run.eels/0", LONG])
    monkeypatch.setattr(limits, "RELEASE_LIMIT", 1)
    with pytest.raises(ValueError, match="2 references are too many for one call; give at most 1"):
        client.call("release", ["run.eels/0", "run.eels/1"])


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        ({"frames": 10**15}, ValueError, "frames is 1000000000000000; give 1 to 16777216"),
        ({"frames": 0}, ValueError, "frames is 0; give 1 to"),
        ({"frames": 4.0}, TypeError, "frames is 4.0; give a whole number"),
        ({"frames": True}, TypeError, "frames is True; give a whole number"),
        ({"frames": 10**7, "entry": "frame"}, ValueError, "frames is 10000000; give 1 to 1048576"),
        ({"first": -1}, ValueError, "first is -1; give 0 to"),
        ({"first": 10**15}, ValueError, "first is 1000000000000000; give 0 to"),
        ({"base": LONG}, ValueError, "base has 513 characters"),
        ({"base": None}, TypeError, "base is None; give text"),
        ({"duration": float("nan")}, ValueError, "duration is nan; give 0 to 86400 s"),
        ({"duration": 1e9}, ValueError, "duration is 1000000000.0; give 0 to 86400 s"),
        ({"duration": "1"}, TypeError, "duration is '1'; give seconds"),
        ({"options": None}, TypeError, "options are None; give a dictionary"),
        ({"scan": [2, 2]}, TypeError, "scan is a list of 2 entries; give a dictionary"),
        ({"scan": {"shape": [2, 2]}}, ValueError, "scan has the fields .*give region, shape, sync"),
        ({"scan": SCAN | {"shape": [1] * 1000}}, ValueError, "shape is a list of 1000 entries"),
        ({"scan": SCAN | {"shape": [2, 2.5]}}, TypeError, "points is 2.5; give a whole number"),
        ({"scan": SCAN | {"shape": [1 << 24, 2]}}, ValueError, "16777216 x 2 has too many points"),
        ({"scan": SCAN | {"region": nested(30)}}, ValueError, "region has lists .* 16 levels"),
        ({"shutter": 1}, ValueError, "order has the fields .*; give base, duration, entry, first"),
    ],
)  # fmt: skip
def test_an_impossible_order_of_a_fly_scan_is_refused_at_once(
    client: Client, change: dict[str, Any], kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=text):
        client.call("arm", "eels", ORDER | change)


def test_the_largest_fly_scan_is_armed_at_once(client: Client) -> None:
    began = time.monotonic()
    client.call("arm", "eels", ORDER | {"frames": limits.FRAMES_LIMIT})
    assert time.monotonic() - began < 5
    client.call("abort")


def test_values_may_be_nested_in_16_levels_and_no_more(client: Client) -> None:
    limits.check_value("exposure", nested(limits.NESTING_LIMIT))
    text = "'?exposure'? has lists or dictionaries in more than 16 levels; give a plain value"
    with pytest.raises(ValueError, match=text):
        client.call("expose", "run.eels/0", "eels", {"exposure": nested(200)})
    with pytest.raises(ValueError, match=text):
        client.call("set", "exposure", {"a": nested(16)})


def test_options_are_few_and_have_short_names(client: Client) -> None:
    for method in ("layout", "preflight"):
        with pytest.raises(ValueError, match="65 options are given; at most 64"):
            client.call(method, "eels", {str(number): 1 for number in range(65)})
        with pytest.raises(ValueError, match="option has 200 characters"):
            client.call(method, "eels", {"o" * 200: 1})
        with pytest.raises(TypeError, match="options are a list of 1 entries; give a dictionary"):
            client.call(method, "eels", ["exposure"])


def test_names_of_detectors_and_settings_have_a_limit(client: Client) -> None:
    name = "n" * (limits.NAME_LIMIT + 1)
    for method, *arguments in (("get", name), ("set", name, 1.0)):
        with pytest.raises(ValueError, match="setting has 129 characters"):
            client.call(method, *arguments)
    for method, *arguments in (("kickoff", name), ("progress", name), ("layout", name, {})):
        with pytest.raises(ValueError, match="detector has 129 characters"):
            client.call(method, *arguments)


def test_bytes_are_fetched_from_where_a_frame_can_have_them(client: Client) -> None:
    client.call("expose", "run.eels/0", "eels", {})
    with pytest.raises(ValueError, match="start is -1; give 0 to"):
        client.call("fetch", "run.eels/0", -1, 10)
    with pytest.raises(ValueError, match=f"size is {10**18}; give 0 to"):
        client.call("fetch", "run.eels/0", 0, 10**18)
    with pytest.raises(TypeError, match="start is 0.5; give a whole number"):
        client.call("fetch", "run.eels/0", 0.5, 10)
