"""Frames that a file cannot store fail, and those after them are stored."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bluesky_em.acquisition.instrument_pc.exposure import Exposure
from bluesky_em.acquisition.instrument_pc.fly_scan import FlyOrder, FlyScan
from bluesky_em.acquisition.instrument_pc.spool import Spool
from bluesky_em.axes import Axis
from bluesky_em.files.hdf5.updates import UpdateReader
from bluesky_em.files.ledger_writer import LedgerWriter
from bluesky_em.frame import Frame
from bluesky_em.reference import ReferenceState
from bluesky_em.storage.writer import _frame_transfer
from bluesky_em.storage.writer._frame_transfer import FrameTransfer

PATIENCE = 60.0  # seconds
SUM = {"mode": "accumulate", "shape": [4], "dtype": "<f4"}
CUBE = {"mode": "add_slice", "shape": [6, 3, 4], "dtype": "<f4"}
SCAN = {"shape": [6, 3], "region": [0.0, 0.0, 1.0, 1.0], "sync": "hardware"}


def axis(name: str, size: int) -> Axis:
    return Axis(name=name, units="", offset=0.0, scale=1.0, size=size)


def frame(number: int, update: dict[str, Any] | None, *shape: int) -> Frame:
    return Frame(
        reference=f"run/eels/{number}", run="run", stream="primary", detector="eels",
        number=number, row=number, server="", path="data/eels.h5", shape=shape, dtype="<f4",
        checksum=0, axes=tuple(axis(f"a{n}", size) for n, size in enumerate(shape)), ended=0.0,
        update=update,
    )  # fmt: skip


class LocalSpoolClient:
    """A `SpoolClient` whose spool is in this process."""

    def __init__(self, spool: Spool):
        self.header, self.fetch = spool.header, spool.read
        self.references, self.release = spool.references, spool.release
        self.uri = "spool"
        self._spool = spool

    def status(self) -> dict[str, int]:
        _, size = self._spool.fill()
        return {"bytes": size, "capacity": self._spool.capacity()}


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[LedgerWriter]:
    ledger = LedgerWriter(tmp_path / "ledger.sqlite")
    yield ledger
    ledger.close()


@pytest.fixture
def store(
    tmp_path: Path, spool: Spool, ledger: LedgerWriter, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FrameTransfer]:
    monkeypatch.setattr(_frame_transfer, "SpoolClient", lambda server: LocalSpoolClient(spool))
    store = FrameTransfer("", tmp_path, ledger)
    yield store
    store.stop()


def put(spool: Spool, *frames: Frame, value: float = 1.0) -> None:
    for each in frames:
        pixels = np.full((1, *each.shape), each.number + value, "<f4")
        spool.put(each.reference, Exposure(pixels, [], {}, 1.0, 2.0))


def stored(
    store: FrameTransfer, ledger: LedgerWriter, *frames: Frame
) -> dict[int, tuple[ReferenceState, str]]:
    """Stage and reason of each, by number, when all have ended and the files are closed."""
    ledger.add_frames(frames)
    for each in frames:
        store.add(each)
    done = threading.Event()
    store.finish("run", frames[:1], done.set)
    assert done.wait(PATIENCE), store.trouble
    stages = ledger.stages([each.reference for each in frames])
    return {each.number: stages[each.reference] for each in frames}


def test_a_frame_that_does_not_fit_is_failed_and_those_after_it_are_stored(
    store: FrameTransfer, spool: Spool, ledger: LedgerWriter, tmp_path: Path
):
    frames = frame(0, SUM, 4), frame(1, SUM, 3), frame(2, SUM, 4)
    put(spool, *frames)
    stages = stored(store, ledger, *frames)
    assert [stages[n][0] for n in range(3)] == [
        ReferenceState.STORED,
        ReferenceState.FAILED,
        ReferenceState.STORED,
    ]
    assert "but was declared: mode `accumulate` with shape (4)" in stages[1][1]
    with UpdateReader(tmp_path / "data/eels.h5") as reader:
        np.testing.assert_array_equal(reader.read(), [4.0] * 4)
        assert reader.numbers() == [0, 2]


def test_another_frame_of_the_same_number_is_failed(
    store: FrameTransfer, spool: Spool, ledger: LedgerWriter
):
    first, other = frame(0, SUM, 4), replace(frame(1, SUM, 4), row=0)
    put(spool, first, other)
    stages = stored(store, ledger, first, other)
    assert stages[0][0] is ReferenceState.STORED and stages[1][0] is ReferenceState.FAILED
    assert "a new one needs a new number" in stages[1][1]


@pytest.mark.parametrize("first, then", [(None, SUM), (SUM, None)])
def test_a_stream_that_changes_its_mode_is_failed_from_there_on(
    store: FrameTransfer, spool: Spool, ledger: LedgerWriter, first: Any, then: Any
):
    frames = frame(0, first, 4), frame(1, then, 4)
    put(spool, *frames)
    stages = stored(store, ledger, *frames)
    assert stages[0][0] is ReferenceState.STORED and stages[1][0] is ReferenceState.FAILED
    assert "a stream has only one declaration" in stages[1][1]
    later = frame(2, then, 4)
    put(spool, later)
    ledger.add_frames([later])
    store.add(later)  # the file has been closed: what is in it decides
    store.finish("run", frames[:1], (done := threading.Event()).set)
    assert done.wait(PATIENCE), store.trouble
    assert ledger.stages([later.reference])[later.reference][0] is ReferenceState.FAILED


def test_what_an_earlier_writer_wrote_and_could_not_note_is_found_in_the_file(
    store: FrameTransfer, spool: Spool, ledger: LedgerWriter, tmp_path: Path
):
    frames = [frame(n, CUBE, 3, 4) for n in range(2)]
    for each, line in zip(frames, (5, 2), strict=True):
        pixels = np.full((1, 3, 4), line, "<f4")
        facts = {"index": [line, 0, 0]}
        spool.put(each.reference, Exposure(pixels, [], facts, 1.0, 2.0))
    stored(store, ledger, *frames)
    assert spool.references() == []
    again = LedgerWriter(tmp_path / "again.sqlite")
    second = FrameTransfer("", tmp_path, again)
    assert {stage for stage, _ in stored(second, again, *frames).values()} == {
        ReferenceState.STORED
    }
    assert again.frames("run")[0].frame == ledger.frames("run")[0].frame
    assert again.frames("run")[1].frame.index == (2, 0, 0)
    second.stop()
    again.close()


class Interlaced:
    """Flies a map: the even lines first, then the odd ones, each filled with its number."""

    def layout(self, detector: str, options: Any) -> Any:
        return (4,), "<f4"

    def check_fly_scan(self, detector: str, options: Any, scan: Any) -> None:
        pass

    def fly(self, orders: Any, count: int, scan: Any) -> Iterator[dict[str, Exposure]]:
        lines, points = scan["shape"]
        assert count == lines * points
        energy = vars(axis("energy", 4))
        facts = {"scan": [vars(axis("y", lines)), vars(axis("x", points))]}
        for line in [*range(0, lines, 2), *range(1, lines, 2)]:
            pixels = np.full((points, 4), line, "<f4")
            yield {"eels": Exposure(pixels, [energy], {**facts, "index": [line, 0, 0]}, 1.0, 2.0)}


def test_lines_that_come_in_any_order_make_the_cube(
    store: FrameTransfer, spool: Spool, ledger: LedgerWriter, tmp_path: Path
):
    flight = FlyScan(Interlaced(), spool, threading.Lock())
    flight.arm("eels", FlyOrder("run/eels", 0, 6, 0.0, {}, SCAN, "line"))
    flight.kickoff("eels")
    deadline = time.monotonic() + PATIENCE
    while not flight.progress("eels")["done"]:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    progress = flight.progress("eels")
    assert (progress["captured"], progress["block"], progress["error"]) == (6, 1, "")
    assert progress["header"]["shape"] == [1, 3, 4]
    assert [each["name"] for each in progress["header"]["axes"]] == ["x", "energy"]
    stages = stored(store, ledger, *(frame(n, CUBE, 3, 4) for n in range(6)))
    assert {stage for stage, _ in stages.values()} == {ReferenceState.STORED}
    assert [e.frame.index for e in ledger.frames("run")][3] == (1, 0, 0)
    with UpdateReader(tmp_path / "data/eels.h5") as reader:
        lines = np.arange(6, dtype="<f4").reshape(6, 1, 1)
        np.testing.assert_array_equal(reader.read(), np.broadcast_to(lines, (6, 3, 4)))
