"""Frames that a file cannot store fail, and those after them are stored."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stamina.instrumentation

from bluesky_em.acquisition.instrument_pc.exposure import Exposure
from bluesky_em.acquisition.instrument_pc.fly_scan import FlyOrder, FlyScan
from bluesky_em.acquisition.instrument_pc.spool import Spool
from bluesky_em.axes import Axis
from bluesky_em.files.hdf5 import FramesFile, FramesReader
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
        reference=f"run.eels/{number}", run="run", stream="primary", detector="eels",
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


@pytest.fixture
def waits() -> Iterator[list[float]]:
    """The seconds before each second attempt of anything."""
    waits: list[float] = []
    stamina.instrumentation.set_on_retry_hooks([lambda details: waits.append(details.wait_for)])
    yield waits
    stamina.instrumentation.set_on_retry_hooks(None)


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


def test_a_frame_that_is_damaged_in_the_spool_is_failed_at_once_and_the_others_are_stored(
    store: FrameTransfer, spool: Spool, ledger: LedgerWriter, waits: list[float]
):
    frames = [frame(number, SUM, 4) for number in range(5)]
    put(spool, *frames)
    for damaged in (1, 3):
        path = Path(spool._path(frames[damaged].reference))
        content = bytearray(path.read_bytes())
        content[-5] ^= 1  # the last byte of its pixels
        path.write_bytes(content)
    stages = stored(store, ledger, *frames)
    assert [n for n, (stage, _) in stages.items() if stage is ReferenceState.FAILED] == [1, 3]
    assert "run.eels/1: 16 bytes arrived with CRC-32" in stages[1][1]
    assert waits == [0.0, 0.0], "each was fetched twice"


def test_a_frame_whose_file_in_the_spool_is_empty_is_failed_and_the_others_are_stored(
    store: FrameTransfer, spool: Spool, ledger: LedgerWriter
):
    frames = [frame(number, SUM, 4) for number in range(3)]
    put(spool, *frames)
    Path(spool._path(frames[1].reference)).write_bytes(b"")
    stages = stored(store, ledger, *frames)
    assert [n for n, (stage, _) in stages.items() if stage is ReferenceState.FAILED] == [1]
    assert "run.eels/1: 0 bytes arrived" in stages[1][1]


def test_a_frame_that_its_server_cannot_read_waits_alone_and_its_run_ends_after_it(
    store: FrameTransfer, spool: Spool, ledger: LedgerWriter, tmp_path: Path
):
    frames = [frame(number, None, 4) for number in range(3)]
    put(spool, *frames)
    path = Path(spool._path(frames[1].reference))
    aside = path.rename(path.with_suffix(".aside"))
    path.mkdir()
    ledger.add_frames(frames)
    for each in frames:
        store.add(each)
    store.finish("run", frames[:1], (done := threading.Event()).set)
    wait_until_stored(ledger, store, frames[0], frames[2])
    assert not done.is_set() and store.backlog == 2
    assert "run.eels/1 cannot be fetched: " in store.trouble
    path.rmdir()
    aside.rename(path)
    assert done.wait(PATIENCE), store.trouble
    assert rows(tmp_path / "data/eels.h5") == [1.0, 2.0, 3.0]
    assert store.trouble == ""


def test_a_frame_that_was_changed_on_the_way_is_fetched_again(
    store: FrameTransfer, spool: Spool, ledger: LedgerWriter
):
    changed = [b"\0" * 16, b"\1" * 16]

    def fetch(reference: str, start: int, size: int) -> bytes:
        return changed.pop() if changed else spool.read(reference, start, size)

    store._spool.fetch = fetch
    put(spool, only := frame(0, SUM, 4))
    assert stored(store, ledger, only) == {0: (ReferenceState.STORED, "")}
    assert not changed


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
    flight.arm("eels", FlyOrder("run.eels", 0, 6, 0.0, {}, SCAN, "line"))
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


def wait_until_stored(ledger: LedgerWriter, store: FrameTransfer, *frames: Frame) -> None:
    deadline = time.monotonic() + PATIENCE
    references = [each.reference for each in frames]
    while {stage for stage, _ in ledger.stages(references).values()} != {ReferenceState.STORED}:
        assert time.monotonic() < deadline, store.trouble
        time.sleep(0.01)


def rows(path: Path) -> list[float]:
    with FramesReader(path) as reader:
        return [float(row[0]) for row in reader.rows(0, len(reader.numbers()))]


class PowerCut:
    """A file with 8 stored frames, to which 8 more were appended; then the PC lost its power.

    The later ones are still in the spool, and not recorded as stored.
    """

    def __init__(self, folder: Path, spool: Spool, ledger: LedgerWriter):
        self.frames = [frame(n, None, 1 << 14) for n in range(16)]
        self.path = folder / "data/eels.h5"
        put(spool, *self.frames)
        ledger.add_frames(self.frames)
        store = FrameTransfer("", folder, ledger)
        for each in self.frames[:8]:
            store.add(each)
        wait_until_stored(ledger, store, *self.frames[:8])
        store.stop()
        self.size = self.path.stat().st_size
        file = FramesFile(self.path, self.frames[0])
        for each in self.frames[8:]:
            file.write(each, np.full((1, *each.shape), each.number + 1.0, "<f4"))
        file.flush()
        self.content = self.path.read_bytes()
        file.close()

    def kept(self) -> list[str]:
        return [path.name for path in self.path.parent.glob("*damaged*")]


@pytest.fixture
def cut(
    tmp_path: Path, spool: Spool, ledger: LedgerWriter, monkeypatch: pytest.MonkeyPatch
) -> PowerCut:
    monkeypatch.setattr(_frame_transfer, "SpoolClient", lambda server: LocalSpoolClient(spool))
    return PowerCut(tmp_path, spool, ledger)


def continued(cut: PowerCut, folder: Path, ledger: LedgerWriter) -> list[ReferenceState]:
    """Continue as the next writer does; return the stages of all frames."""
    store = FrameTransfer("", folder, ledger)
    for each in cut.frames[8:]:
        store.add(each)
    store.finish("run", cut.frames[:1], (done := threading.Event()).set)
    assert done.wait(PATIENCE), store.trouble
    store.stop()
    return [entry.stage for entry in ledger.frames("run")]


def test_a_file_whose_end_was_lost_gets_its_structure_back_and_the_rest_from_the_spool(
    cut: PowerCut, tmp_path: Path, ledger: LedgerWriter
) -> None:
    cut.path.write_bytes(cut.content[: cut.size])
    assert continued(cut, tmp_path, ledger) == [ReferenceState.STORED] * 16
    assert rows(cut.path) == [number + 1.0 for number in range(16)]
    assert cut.kept() == []


def test_a_file_whose_structure_is_not_recorded_is_replaced_if_it_is_damaged(
    cut: PowerCut, tmp_path: Path, ledger: LedgerWriter, caplog: pytest.LogCaptureFixture
) -> None:
    ledger.forget_structure("data/eels.h5")
    cut.path.write_bytes(cut.content[: cut.size])
    assert continued(cut, tmp_path, ledger) == [ReferenceState.STORED] * 16
    assert rows(cut.path) == [number + 1.0 for number in range(16)]
    assert cut.kept() == ["eels.h5.damaged"]
    assert (cut.path.parent / "eels.h5.damaged").stat().st_size == cut.size
    assert "8 of its 8 stored frames were taken over" in caplog.text


def test_a_stored_frame_that_is_damaged_in_an_unclosed_file_is_failed_and_no_other(
    cut: PowerCut, tmp_path: Path, ledger: LedgerWriter
) -> None:
    place = cut.content.index(np.float32(4.0).tobytes() * 8)  # of frame 3
    cut.path.write_bytes(cut.content[:place] + b"\xff" + cut.content[place + 1 :])
    stages = continued(cut, tmp_path, ledger)
    assert stages == [
        ReferenceState.FAILED if number == 3 else ReferenceState.STORED for number in range(16)
    ]
    found = rows(cut.path)
    assert np.isnan(found[3]) and [*found[:3], *found[4:]] == [
        number + 1.0 for number in range(16) if number != 3
    ]
    assert cut.kept() == ["eels.h5.damaged"]


def test_a_file_of_which_nothing_is_left_is_filled_from_the_spool(
    cut: PowerCut, tmp_path: Path, ledger: LedgerWriter
) -> None:
    cut.path.write_bytes(b"")
    assert (
        continued(cut, tmp_path, ledger)
        == [ReferenceState.FAILED] * 8 + [ReferenceState.STORED] * 8
    )
    assert rows(cut.path)[8:] == [number + 1.0 for number in range(8, 16)]


def test_a_file_that_was_only_not_closed_is_continued_in_place(
    cut: PowerCut, tmp_path: Path, ledger: LedgerWriter
) -> None:
    cut.path.write_bytes(cut.content)
    assert continued(cut, tmp_path, ledger) == [ReferenceState.STORED] * 16
    assert cut.kept() == []


def test_a_file_in_trouble_holds_up_its_own_frames_only(
    store: FrameTransfer, spool: Spool, ledger: LedgerWriter, tmp_path: Path
) -> None:
    blocked = [replace(frame(n, None, 4), path="data/blocked.h5") for n in range(2)]
    others = [
        replace(frame(n, None, 4), reference=f"other.eels/{n}", run="other") for n in range(2)
    ]
    put(spool, *blocked, *others)
    ledger.add_frames([*blocked, *others])
    (tmp_path / "data/blocked.h5").mkdir(parents=True)
    for each in (blocked[0], others[0], blocked[1], others[1]):
        store.add(each)
    store.finish("run", blocked[:1], (blocked_end := threading.Event()).set)
    store.finish("other", others[:1], (others_end := threading.Event()).set)
    assert others_end.wait(PATIENCE), store.trouble
    assert not blocked_end.is_set() and store.backlog == 3
    assert "data/blocked.h5: " in store.trouble
    (tmp_path / "data/blocked.h5").rmdir()
    assert blocked_end.wait(PATIENCE), store.trouble
    assert rows(tmp_path / "data/blocked.h5") == rows(tmp_path / "data/eels.h5") == [1.0, 2.0]
    assert store.trouble == ""


def test_the_fill_of_a_spool_is_recorded_as_long_as_frames_wait_in_it(
    store: FrameTransfer,
    spool: Spool,
    ledger: LedgerWriter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backlogs: list[int] = []
    monkeypatch.setattr(store._fill, "forget", lambda: backlogs.append(store.backlog))
    hold, tries, tried = store._queue.hold, iter(range(9)), threading.Event()
    monkeypatch.setattr(
        store._queue, "hold", lambda *args: (next(tries) and tried.set(), hold(*args))[1]
    )
    (tmp_path / "data/eels.h5").mkdir(parents=True)
    put(spool, only := frame(0, None, 4))
    ledger.add_frames([only])
    store.add(only)
    assert tried.wait(PATIENCE), store.trouble
    (tmp_path / "data/eels.h5").rmdir()
    wait_until_stored(ledger, store, only)
    assert not any(backlogs)
