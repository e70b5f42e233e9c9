"""The values that `prepare` accepts, and their declarations in documents."""

from typing import Any

import pytest

from bluesky_em import MapInfo
from bluesky_em.detector._trigger_info import UpdateInfo
from bluesky_em.update_modes import UpdateDeclaration


@pytest.mark.parametrize("info, shape, plain", [
    (UpdateInfo(number_of_events=9, mode="accumulate"), [4],
     {"mode": "accumulate", "shape": [4], "dtype": "<f4"}),
    (UpdateInfo(number_of_events=9, mode="replace", keep_versions="all"), [4, 5],
     {"mode": "replace", "shape": [4, 5], "dtype": "<f4", "keep_versions": "all"}),
    (MapInfo(shape=(6, 3), mode="add_slice"), [4],
     {"mode": "add_slice", "shape": [6, 3, 4], "dtype": "<f4"}),
    (MapInfo(shape=(6, 3), mode="add_slice"), [],
     {"mode": "add_slice", "shape": [6, 3], "dtype": "<f4"}),
])  # fmt: skip
def test_a_fly_scan_declares_what_its_frames_become(
    info: MapInfo | UpdateInfo, shape: list[int], plain: dict
):
    declared = info.declare(shape, "<f4")
    assert declared is not None and declared.dump() == plain
    assert UpdateDeclaration.load(plain) == declared


@pytest.mark.parametrize("mode", ["add", "add_slice"])
def test_an_event_is_a_line_of_a_map(mode: Any):
    info = MapInfo(shape=(6, 3), mode=mode)
    assert (info.number_of_events, info.points) == (6, 18)
    with pytest.raises(ValueError, match="has 6 events, its lines: omit number_of_events"):
        MapInfo(shape=(6, 3), mode=mode, number_of_events=18)


def test_integers_whose_sum_could_overflow_are_refused():
    with pytest.raises(ValueError, match="their sum could overflow"):
        UpdateInfo(number_of_events=9, mode="accumulate").declare([4], "<i8")
