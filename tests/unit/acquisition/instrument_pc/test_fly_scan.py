"""A fly scan at the acquisition server: rows of frames become blocks in the spool."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bluesky_em.acquisition.instrument_pc import fly_scan as fly_scan_module
from bluesky_em.acquisition.instrument_pc import spool as spool_module
from bluesky_em.acquisition.instrument_pc.exposure import Exposure
from bluesky_em.acquisition.instrument_pc.fly_scan import FlyOrder, FlyScan
from bluesky_em.acquisition.instrument_pc.spool import Spool

PATIENCE = 60.0  # seconds
AXIS = {"name": "energy", "units": "eV", "offset": 0.0, "scale": 1.0, "size": 4}


class Rows:
    """A driver whose `fly` yields rows of frames; each frame contains its number.

    Attributes:
        during, after: called with the number of each row.
        again: number of rows that had to be taken again.
    """

    def __init__(self, row: int = 5):
        self.row = row
        self.taken = 0
        self.again = 0
        self.axis = AXIS
        self.during: Any = lambda row: None
        self.after: Any = lambda row: None

    def layout(self, detector: str, options: Any) -> Any:
        return (4,), "<f4"

    def check_fly_scan(self, detector: str, options: Any, scan: Any) -> None:
        if scan:
            raise ValueError("no maps here")

    def fly(self, orders: Any, count: int, scan: Any) -> Iterator[dict[str, Exposure]]:
        first = 0
        while first < count:
            numbers = np.arange(first, min(count, first + self.row), dtype="<f4")
            frames = np.repeat(numbers[:, np.newaxis], 4, axis=1)
            self.during(first // self.row)
            self.taken += len(frames)
            again = yield {name: Exposure(frames, [self.axis], {}, 1.0, 2.0) for name in orders}
            self.again += bool(again)
            first += 0 if again else self.row
            self.after(first // self.row - 1)


def order(frames: int, *, first: int = 0, duration: float = 0.01, scan: Any = None) -> FlyOrder:
    return FlyOrder("run.eels", first, frames, duration, {}, scan)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def a_fly_scan(driver: Any, spool: Spool) -> FlyScan:
    return FlyScan(driver, spool, threading.Lock())


def ended(fly_scan: FlyScan, detector: str = "eels") -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE
    while not fly_scan.progress(detector)["done"]:
        assert time.monotonic() < deadline, "it does not end"
        time.sleep(0.005)
    return fly_scan.progress(detector)


def taken(driver: Any, spool: Spool, *orders: FlyOrder) -> dict[str, Any]:
    fly_scan = a_fly_scan(driver, spool)
    fly_scan.arm("eels", orders[0])
    fly_scan.kickoff("eels")
    return ended(fly_scan)


def frames_in(spool: Spool, blocks: list[str] | None = None) -> list[float]:
    """The numbers in the spooled frames, in order of their references."""
    blocks = spool.references() if blocks is None else blocks
    blocks = sorted(blocks, key=lambda ref: int(ref.rpartition("/")[2]))
    return [
        float(value)
        for ref in blocks
        for value in np.frombuffer(spool.read(ref, 0, 1 << 20), "<f4").reshape(-1, 4)[:, 0]
    ]


def test_frames_are_in_blocks_of_a_tenth_of_a_second_the_last_one_shorter(spool: Spool):
    progress = taken(Rows(), spool, order(23, first=100))
    assert (progress["captured"], progress["block"], progress["error"]) == (23, 10, "")
    assert set(spool.references()) == {"run.eels/100", "run.eels/110", "run.eels/120"}
    assert frames_in(spool) == [*range(23)]
    header = spool.header("run.eels/120")
    assert header["shape"] == [3, 4] and (header["started"], header["ended"]) == (1.0, 2.0)


def test_each_slow_frame_is_a_block(spool: Spool):
    assert taken(Rows(row=1), spool, order(3, duration=2.0))["block"] == 1
    assert len(spool.references()) == 3


def test_frames_that_are_updates_each_have_an_entry(spool: Spool):
    assert taken(Rows(row=5), spool, order(7)._replace(entry="frame"))["block"] == 1
    assert len(spool.references()) == 7 and frames_in(spool) == [*range(7)]


@pytest.mark.parametrize("entry, said", [
    ("row", "there is no entry 'row'; there are: block, frame, line"),
    ("line", "only a map whose scan is synchronised by hardware has entries for lines"),
])  # fmt: skip
def test_an_impossible_entry_is_refused(spool: Spool, entry: str, said: str):
    with pytest.raises(ValueError, match=said):
        a_fly_scan(Rows(), spool).arm("eels", order(5)._replace(entry=entry))


def test_two_detectors_start_when_both_are_ready(spool: Spool):
    driver = Rows()
    fly_scan = a_fly_scan(driver, spool)
    fly_scan.arm("eels", order(10))
    fly_scan.arm("adf", order(10)._replace(base="run.adf"))
    fly_scan.kickoff("eels")
    assert not fly_scan.progress("eels")["done"] and driver.taken == 0
    fly_scan.kickoff("adf")
    assert ended(fly_scan)["captured"] == ended(fly_scan, "adf")["captured"] == 10


def test_detectors_with_different_numbers_of_frames_are_refused(spool: Spool):
    fly_scan = a_fly_scan(Rows(), spool)
    fly_scan.arm("eels", order(10))
    with pytest.raises(ValueError, match="eels was armed for 10 frames.*prepare both alike"):
        fly_scan.arm("adf", order(11))


@pytest.mark.parametrize("wrong", [order(0), order(5, first=-1), order(5, scan={"shape": [1, 1]})])
def test_an_order_that_cannot_be_carried_out_is_refused_when_it_is_armed(
    spool: Spool, wrong: FlyOrder
):
    with pytest.raises(ValueError):
        a_fly_scan(Rows(), spool).arm("eels", wrong)


def test_a_kickoff_without_being_armed_says_what_to_do(spool: Spool):
    fly_scan = a_fly_scan(Rows(), spool)
    with pytest.raises(RuntimeError, match="'eels' is not armed: prepare it before each kickoff"):
        fly_scan.kickoff("eels")


def test_an_abort_ends_after_the_current_row_and_keeps_all_rows(spool: Spool):
    driver = Rows()
    fly_scan = a_fly_scan(driver, spool)
    driver.during = lambda row: _elsewhere(fly_scan.abort) if row == 1 else None
    fly_scan.arm("eels", order(1000))
    fly_scan.kickoff("eels")
    progress = ended(fly_scan)
    assert (progress["captured"], progress["error"]) == (driver.taken, "") and driver.taken <= 15
    assert frames_in(spool) == [*range(driver.taken)]


def test_a_row_during_which_a_pause_began_is_taken_again_and_no_frame_is_lost(spool: Spool):
    driver, held = Rows(), threading.Event()
    fly_scan = a_fly_scan(driver, spool)

    def pause(row: int) -> None:
        if row == 1 and not held.is_set():
            fly_scan.pause()
            held.set()

    driver.during = pause
    fly_scan.arm("eels", order(40))
    fly_scan.kickoff("eels")
    assert held.wait(PATIENCE)
    assert not fly_scan.progress("eels")["done"] and driver.taken <= 15
    fly_scan.resume()
    assert ended(fly_scan)["captured"] == 40 and driver.again == 1
    assert frames_in(spool) == [*range(40)]


def test_a_row_that_was_paused_and_never_resumed_is_not_kept(spool: Spool):
    driver = Rows()
    fly_scan = a_fly_scan(driver, spool)
    driver.during = lambda row: fly_scan.pause() if row == 1 else None
    fly_scan.arm("eels", order(40))
    fly_scan.kickoff("eels")
    deadline = time.monotonic() + PATIENCE
    while driver.taken < 10:
        assert time.monotonic() < deadline
    fly_scan.abort()
    assert fly_scan.progress("eels")["captured"] == 5 and frames_in(spool) == [*range(5)]


def test_a_full_spool_delays_the_fly_scan_until_there_is_room(tmp_path: Path):
    spool = Spool(tmp_path / "spool", limit=2 * 10 * 16)
    fly_scan = a_fly_scan(Rows(), spool)
    fly_scan.arm("eels", order(40))
    fly_scan.kickoff("eels")
    deadline = time.monotonic() + PATIENCE
    got: list[float] = []
    while not (progress := fly_scan.progress("eels"))["done"] or spool.references():
        assert time.monotonic() < deadline
        if "is full" in progress["waiting"] or progress["done"]:
            blocks = spool.references()
            got += frames_in(spool, blocks)
            spool.release(blocks)
    assert got == [*range(40)] and progress["error"] == ""


def test_frames_for_which_there_never_was_room_are_counted_in_the_error(tmp_path: Path):
    spool = Spool(tmp_path / "spool", limit=10 * 16)
    fly_scan = a_fly_scan(Rows(row=10), spool)
    fly_scan.arm("eels", order(40))
    fly_scan.kickoff("eels")
    deadline = time.monotonic() + PATIENCE
    while "is full" not in fly_scan.progress("eels")["waiting"]:
        assert time.monotonic() < deadline
    fly_scan.abort()
    progress = fly_scan.progress("eels")
    assert progress["captured"] == 10
    assert progress["error"].startswith("10 frames from run.eels/10 on were taken and not kept")


def test_a_failing_instrument_is_reported_and_the_rows_before_are_kept(spool: Spool):
    driver = Rows()

    def fail(row: int) -> None:
        raise RuntimeError("the camera has gone")

    driver.after = fail
    progress = taken(driver, spool, order(100))
    assert progress["error"] == "RuntimeError: the camera has gone"
    assert progress["captured"] == 5 and frames_in(spool) == [*range(5)]


def test_a_disk_that_cannot_be_written_is_waited_for(spool: Spool, monkeypatch: pytest.MonkeyPatch):
    fly_scan = a_fly_scan(Rows(), spool)
    fly_scan.arm("eels", order(20))
    with monkeypatch.context() as patched:
        patched.setattr(spool_module.os, "replace", _no_disk)
        fly_scan.kickoff("eels")
        deadline = time.monotonic() + PATIENCE
        while "unplugged" not in fly_scan.progress("eels")["waiting"]:
            assert time.monotonic() < deadline
    assert ended(fly_scan)["captured"] == 20


def _elsewhere(call: Any) -> None:
    threading.Thread(target=call, daemon=True).start()


def test_a_fly_scan_without_a_client_ends_and_releases_the_instrument(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fly_scan_module, "PROGRESS_TIMEOUT", 0.05)
    instrument, driver = threading.Lock(), Rows()
    fly_scan = FlyScan(driver, spool, instrument)
    fly_scan.arm("eels", order(10_000_000))
    fly_scan.pause()  # its plan has paused, and was killed
    fly_scan.kickoff("eels")
    assert instrument.acquire(timeout=PATIENCE)
    assert ended(fly_scan)["error"] == "no client asked for its progress for 0 s"


def test_a_changed_calibration_ends_the_fly_scan_and_is_reported(spool: Spool):
    driver = Rows()

    def drift(row: int) -> None:
        if row == 1:
            driver.axis = {**AXIS, "offset": 5.0}

    driver.during = drift
    progress = taken(driver, spool, order(100))
    assert "the axes have changed from" in progress["error"] and progress["captured"] == 5


def test_a_block_is_never_larger_than_the_spool_may_hold(tmp_path: Path):
    spool = Spool(tmp_path / "spool", limit=3 * 16)
    fly_scan = a_fly_scan(Rows(), spool)
    fly_scan.arm("eels", order(40))
    fly_scan.kickoff("eels")
    assert fly_scan.progress("eels")["block"] == 3
    fly_scan.abort()


def _no_disk(*paths: Any) -> None:
    raise OSError(5, "the disk is unplugged")
