"""The queue of a frame transfer: tasks of a file in trouble wait apart from all others."""

from dataclasses import replace

import pytest

from bluesky_em.frame import Frame
from bluesky_em.storage.writer import _frame_queue
from bluesky_em.storage.writer._frame_queue import Ending, FrameQueue
from tests.support.ledger_frame import frame


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def monotonic(self) -> float:
        return self.time


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(_frame_queue, "time", clock)
    return clock


@pytest.fixture
def queue(clock: Clock) -> FrameQueue:
    return FrameQueue((10.0, 10.0))


def of(path: str, number: int = 0) -> Frame:
    return replace(frame(number), path=path)


def ending(*frames: Frame) -> Ending:
    return Ending("run", frames, lambda: None)


def head_at(queue: FrameQueue, clock: Clock, time: float) -> object:
    clock.time = time
    queue.resume()
    return queue.head


@pytest.mark.parametrize("first, second", [("p.h5", "q.h5"), ("q.h5", "p.h5")])
def test_the_end_of_a_run_waits_until_none_of_its_files_has_frames_that_wait(
    queue: FrameQueue, clock: Clock, first: str, second: str
):
    frames = of(first, 0), of(second, 1)
    queue.add(*frames)
    queue.hold(first, "no such disk")
    clock.time = 5.0
    queue.hold(second, "no such disk")
    queue.add(end := ending(*frames))
    assert head_at(queue, clock, 5.0) is None and len(queue) == 3
    assert head_at(queue, clock, 10.0) == frames[0]
    queue.remove(1)
    assert head_at(queue, clock, 11.0) is None and len(queue) == 2
    assert head_at(queue, clock, 15.0) == frames[1]
    queue.remove(1)
    assert head_at(queue, clock, 15.0) == end


def test_the_end_of_a_run_whose_file_cannot_be_closed_waits_alone(queue: FrameQueue, clock: Clock):
    end, other = ending(of("p.h5")), of("q.h5")
    queue.add(end, other)
    queue.hold("p.h5", "no such disk")
    assert head_at(queue, clock, 1.0) == other
    queue.remove(1)
    assert head_at(queue, clock, 1.0) is None and len(queue) == 1
    assert head_at(queue, clock, 10.0) == end


def test_frames_of_a_file_in_trouble_keep_their_order(queue: FrameQueue, clock: Clock):
    frames = [of("p.h5", number) for number in range(3)]
    queue.add(*frames[:2])
    queue.hold("p.h5", "no such disk")
    queue.add(frames[2])
    head_at(queue, clock, 10.0)
    assert queue.batch(9, 1 << 20) == frames


def test_a_frame_that_cannot_be_fetched_waits_alone_but_the_end_of_its_run_waits_for_it(
    queue: FrameQueue, clock: Clock
):
    frames = [of("p.h5", number) for number in range(3)]
    queue.add(*frames, end := ending(frames[0]))
    queue.hold_frame(frames[1], "cannot be read")
    assert queue.batch(9, 1 << 20) == [frames[0], frames[2]]
    queue.remove(2)
    queue.clear_trouble({frames[0].path})
    assert head_at(queue, clock, 1.0) is None and queue.trouble == "cannot be read"
    assert head_at(queue, clock, 10.0) == frames[1]
    queue.remove(1)
    queue.clear_trouble({frames[1].reference})
    assert head_at(queue, clock, 10.0) == end and queue.trouble == ""


def test_of_many_troubles_only_the_first_are_listed(queue: FrameQueue):
    for number in range(20):
        queue.add(each := of("p.h5", number))
        queue.hold_frame(each, f"trouble {number}")
    assert queue.trouble.endswith("trouble 9; and 10 more")
