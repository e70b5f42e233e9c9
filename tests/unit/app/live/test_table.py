"""A table has a line for each point; for fly scans, the number of frames so far."""

import math
from collections.abc import Sequence
from typing import Any

from bluesky_em.app.live import tabulate
from bluesky_em.data import End, Point


class Run:
    """A follower of a run that was recorded."""

    run = "0b5c2d7e"
    start = {"plan_name": "line_scan", "scan_id": 7}

    def __init__(self, *batches: Sequence[Point], reason: str = ""):
        self._batches = list(batches)
        self.end = End(status="success", reason=reason)

    def batch(self, most: int) -> Sequence[Point]:
        return self._batches.pop(0) if self._batches else []


def point(index: int, **fields: Any) -> Point:
    fields_of_point: dict[str, Any] = {
        "time": 0.0,
        "data": {},
        "references": {"eels": f"r.eels/{index}"},
    }
    return Point(
        run="r", stream="primary", index=index, seq_num=index + 1, _open=lambda _: None,  # type: ignore
        **fields_of_point | fields,
    )  # fmt: skip


def lines(run: Any, *columns: str) -> list[str]:
    written: list[str] = []
    tabulate(run, columns, written.append)
    return written


def test_each_point_has_a_line_with_its_numbers_and_the_run_ends_with_its_reason() -> None:
    data = {"x": 0.25, "eels-total": 123456.0, "sample": "STO"}
    first, header, line, last = lines(Run([point(0, data=data)], reason="aligned: True"))
    assert first == "run 0b5c2d7e: line_scan, scan 7"
    assert header.split() == ["seq_num", "time", "x", "eels-total"]
    assert line.split()[0] == "1" and line.split()[2:] == ["0.25", "123456"]
    assert last == "run 0b5c2d7e: success, aligned: True; 1 points"


def test_columns_can_be_chosen_and_a_missing_value_is_a_dash() -> None:
    _, header, line, _ = lines(Run([point(0, data={"x": 1.5, "sample": "STO"})]), "sample", "y")
    assert header.split()[2:] == ["sample", "y"] and line.split()[2:] == ["STO", "-"]


def test_frames_of_a_fly_scan_share_a_line_per_batch() -> None:
    frames = [point(n, time=math.nan) for n in range(300)]
    _, _, one, other, last = lines(Run(frames[:200], frames[200:]))
    assert one.split() == ["200", "-"] and other.split() == ["300", "-"]
    assert last.endswith("300 points")


def test_a_line_names_lost_frames_and_points_left_out() -> None:
    lost = point(1, data={"x": 1}, failed={"eels": "its spool is gone"}, skipped=2, reason="why")
    line = lines(Run([lost]))[2]
    assert line.endswith("lost r.eels/1: its spool is gone  2 before it left out: why")
