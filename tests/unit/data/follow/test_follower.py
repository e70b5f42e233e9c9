"""A follower returns the points of its source in order, and reports what it leaves out."""

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from bluesky_em import NotReady
from bluesky_em.data.follow import Bookmark, End, Point, RunFollower, RunsFollower


def point(index: int, stream: str = "primary", seq_num: int | None = None) -> Point:
    return Point(
        run="run", stream=stream, index=index, seq_num=seq_num or index + 1, time=0.0, data={},
        references={}, _open=lambda detector: pytest.fail("no frame is opened"),
    )  # fmt: skip


class Source:
    """A source that returns batches; an exception among them is raised."""

    run = "run"
    start = {"uid": "run"}

    def __init__(self, batches: Iterable[Any], end: End | None = None):
        self.batches = list(batches)
        self.end: End | None = None
        self.last = end or End(status="success", reason="done")
        self.closed = False

    def collect(self, timeout: float) -> list[Point]:
        batch = self.batches.pop(0) if self.batches else []
        if not self.batches:
            self.end = self.last
        if isinstance(batch, Exception):
            raise batch
        return batch

    def close(self) -> None:
        self.closed = True


def following(source: Any, **options: Any) -> RunFollower:
    defaults: dict[str, Any] = {
        "streams": ("primary",), "latest_only": False, "patience": 5.0, "trouble": (OSError,),
    }  # fmt: skip
    return RunFollower(source, **defaults | options)


def test_points_come_in_order_and_the_run_s_reason_at_the_end() -> None:
    source = Source([[point(0)], [], [point(1), point(2)]])
    follower = following(source)
    assert [p.index for p in follower] == [0, 1, 2]
    assert follower.end == End(status="success", reason="done")
    assert source.closed


def test_there_is_no_end_while_points_are_left() -> None:
    follower = following(Source([[point(0), point(1)]]))
    next(follower)
    assert follower.end is None


def test_latest_only_returns_the_newest_point_and_counts_those_left_out() -> None:
    follower = following(Source([[point(0)], [point(1), point(2), point(3)]]), latest_only=True)
    assert [(p.index, p.skipped, p.reason) for p in follower] == [(0, 0, ""), (3, 2, "latest_only")]


def test_missing_events_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        points = list(following(Source([[point(0), point(1, seq_num=4)]])))
    assert [p.skipped for p in points] == [0, 2]
    assert points[1].reason == "2 events before it are missing where the run is stored"
    assert "run/primary: 2 events before it" in caplog.text


def test_a_number_that_comes_again_after_a_pause_is_not_a_gap() -> None:
    points = list(
        following(Source([[point(0), point(1), point(2, seq_num=2), point(3, seq_num=3)]]))
    )
    assert [p.skipped for p in points] == [0, 0, 0, 0]


def test_several_streams_come_together_and_unmatched_points_are_counted() -> None:
    source = Source([[point(0, "a"), point(1, "a")], [point(0, "b")], [point(2, "a")]])
    follower = following(source, streams=("a", "b"))
    assert [[p.stream for p in points] for points in follower] == [["a", "b"]]
    assert follower.end is not None and follower.end.missing == {"a": 2}


def test_the_latest_points_of_several_streams_are_of_the_same_index() -> None:
    batches = [[point(n, "a") for n in range(7)] + [point(n, "b") for n in range(5)]]
    follower = following(Source(batches), streams=("a", "b"), latest_only=True)
    (together,) = [[(p.stream, p.index, p.skipped) for p in points] for points in follower]
    assert together == [("a", 4, 4), ("b", 4, 4)]


def test_all_streams_are_returned_as_they_come() -> None:
    source = Source([[point(0, "a"), point(0, "b")], [point(1, "b")]])
    assert [(p.stream, p.index) for p in following(source, streams=None)] == [
        ("a", 0), ("b", 0), ("b", 1),
    ]  # fmt: skip


def test_the_error_after_waiting_without_success_counts_the_points_received() -> None:
    class Silent(Source):
        def collect(self, timeout: float) -> list[Point]:
            return self.batches.pop(0) if self.batches else []

    follower = following(Silent([[point(0)]]), patience=0.01)
    next(follower)
    with pytest.raises(
        NotReady, match=r"run run: nothing new within 0.01 s, after .'primary': '1 points'"
    ):
        next(follower)


def test_a_source_that_is_away_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bluesky_em.data.follow._follower.RETRY_INTERVAL", 0.0)
    follower = following(Source([[point(0)], OSError("gone"), [point(1)]]))
    assert [p.index for p in follower] == [0, 1]


def test_a_bookmark_counts_a_point_as_done_when_the_next_one_is_requested(tmp_path: Path) -> None:
    path = tmp_path / "bookmark.json"
    batches = [[point(n) for n in range(4)]]
    killed = following(Source(batches), bookmark=Bookmark(path))
    assert [next(killed).index, next(killed).index] == [0, 1]
    again = following(Source([[point(n) for n in range(4)]]), bookmark=Bookmark(path))
    assert [p.index for p in again] == [1, 2, 3]
    mark = Bookmark(path)
    assert mark.ended and mark.run == "run"


def test_a_file_that_is_not_a_bookmark_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "notes.json"
    path.write_text(json.dumps(["mine"]))
    with pytest.raises(ValueError, match="is not a bookmark of a follower .*: give another path"):
        Bookmark(path)
    assert json.loads(path.read_text()) == ["mine"]


def test_runs_are_followed_one_after_the_other_and_a_done_one_not_again(tmp_path: Path) -> None:
    class Runs:
        def __init__(self) -> None:
            self.uids = [["done", "a"], ["b"]]

        def collect(self, timeout: float) -> list[str]:
            return self.uids.pop(0) if self.uids else []

        def close(self) -> None:
            pass

    mark = Bookmark(tmp_path / "mark.json")
    mark.move("done")

    def follow(uid: str) -> RunFollower:
        source = Source([[point(0)]])
        source.run = uid
        return following(source)

    runs = RunsFollower(Runs(), follow, patience=0.1, trouble=(), bookmark=mark)
    assert [next(runs).run, next(runs).run] == ["a", "b"]
    with pytest.raises(NotReady, match="no run has begun within 0.1 s"):
        next(runs)
