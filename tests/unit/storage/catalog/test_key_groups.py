"""Each group of keys has a row for every event, however the events were divided into flushes."""

from typing import Any

import numpy as np
import pytest

from bluesky_em.storage.catalog._key_groups import KeyGroups

NUMBER: dict[str, Any] = {"source": "", "dtype": "number", "shape": []}
SPECTRUM = {"source": "", "dtype": "array", "shape": [20], "dtype_numpy": "<f8"}
RAGGED = {"source": "", "dtype": "array", "shape": [None], "dtype_numpy": "<f8"}


def event(number: int, **data: Any) -> dict[str, Any]:
    stamps = {f"ts_{key}": 0.5 for key in data}
    return {"seq_num": number, "time": 100.0 + number, **data, **stamps}


def test_keys_of_a_later_descriptor_have_rows_from_the_first_event_on() -> None:
    groups = KeyGroups({"a": NUMBER, "eels": {**SPECTRUM, "external": "OLD:"}})
    first, second = event(1, a=1.0), event(2, a=2.0, b=5.0)
    groups.count()
    (rows,) = groups.divide([first])
    assert rows == [first]
    assert groups.add({"a": NUMBER, "b": NUMBER}) == {"b": NUMBER}
    groups.count()
    old, new = groups.divide([second])
    assert old == [event(2, a=2.0)]
    assert [(row["b"], set(row)) for row in new] == [(None, {"b", "ts_b"}), (5.0, {"b", "ts_b"})]
    assert groups.later == [{"row": 1, "data_keys": {"b": NUMBER}}]


@pytest.mark.parametrize("flushes", range(16))
def test_the_rows_do_not_depend_on_the_flushes(flushes: int) -> None:
    """Flush after each subset of two events, a later descriptor, and an event; at last, flush."""
    groups = KeyGroups({"a": NUMBER})
    written: list[list[Any]] = [[], []]
    waiting: list[Any] = []
    for number, step in enumerate(["event", "event", "descriptor", "event", "event"]):
        if step == "descriptor":
            groups.add({"b": NUMBER})
        else:
            data = {"a": 1.0} if number < 2 else {"b": 2.0}
            waiting.append(event(number + 1 - (number > 2), **data))
            groups.count()
        if waiting and (flushes >> number & 1 or number == 4):
            for rows, new in zip(written, groups.divide(waiting), strict=False):
                rows += new
            waiting = []
    assert [row["a"] for row in written[0]] == [1.0, 1.0, None, None]
    assert [row["b"] for row in written[1]] == [None, None, 2.0, 2.0]
    assert [row["seq_num"] for row in written[0]] == [1, 2, 3, 4]


def test_a_missing_array_is_one_of_nan_and_a_missing_ragged_one_is_empty() -> None:
    groups = KeyGroups({"spectrum": SPECTRUM, "ragged": RAGGED})
    row = event(1)
    groups.count()
    ((filled,),) = groups.divide([row])
    assert np.isnan(filled["spectrum"]).all() and filled["spectrum"].shape == (20,)
    assert filled["ragged"].shape == (0,)
