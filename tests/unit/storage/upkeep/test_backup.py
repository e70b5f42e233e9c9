"""Backups of each mode: what was stored when one began can be read after it is put back."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bluesky_em.acquisition.instrument_pc.exposure import Exposure
from bluesky_em.acquisition.instrument_pc.spool import Spool
from bluesky_em.files.hdf5 import FramesReader
from bluesky_em.files.hdf5.updates import UpdateReader
from bluesky_em.files.layout import Layout
from bluesky_em.files.ledger_writer import LedgerWriter
from bluesky_em.frame import Frame
from bluesky_em.reference import ReferenceState
from bluesky_em.storage.upkeep import backup
from bluesky_em.storage.upkeep.backup import back_up
from bluesky_em.storage.writer import _frame_transfer
from bluesky_em.storage.writer._frame_transfer import FrameTransfer
from tests.support.simple_frames import SHAPE, frame, pixels

PATIENCE = 60.0  # seconds
COUNT = 8
PATH = "data/haadf.h5"
CUBE = {"mode": "add_slice", "shape": [COUNT, *SHAPE], "dtype": "<f4"}
SUM = {"mode": "accumulate", "shape": [*SHAPE], "dtype": "<f4"}
LATEST = {"mode": "replace", "shape": [*SHAPE], "dtype": "<f4"}
MODES = pytest.mark.parametrize("update", [None, CUBE, SUM, LATEST], ids=str)


class LocalSpoolClient:
    """A `SpoolClient` whose spool is in this process."""

    def __init__(self, spool: Spool):
        self.header, self.fetch = spool.header, spool.read
        self.references, self.release = spool.references, spool.release
        self.uri = "spool"

    def status(self) -> dict[str, int]:
        return {"bytes": 0, "capacity": 1}


class Folder:
    """A storage folder with a writer's thread, and a spool."""

    def __init__(self, root: Path):
        self.root = root
        (root / "journal").mkdir(parents=True, exist_ok=True)
        self.ledger = LedgerWriter(root / "ledger.sqlite")
        self.transfer = FrameTransfer("", root, self.ledger)

    def store(self, spool: Spool, *frames: Frame) -> None:
        self.ledger.add_frames(frames)
        for each in frames:
            spool.put(each.reference, Exposure(pixels(each.number)[None], [], {}, 1.0, 2.0))
            self.transfer.add(each)
            until(lambda each=each: self.stages(each) == [ReferenceState.STORED])
        until(lambda: not spool.references())

    def finish(self, *frames: Frame) -> None:
        """End the run as after a restart, with the frames from its journal."""
        self.ledger.add_frames(frames)
        for each in frames:
            if self.stages(each) == [ReferenceState.CAPTURED]:
                self.transfer.add(each)
        done = threading.Event()
        self.transfer.finish("run", frames[:1], done.set)
        assert done.wait(PATIENCE), self.transfer.trouble

    def stages(self, *frames: Frame) -> list[ReferenceState]:
        found = self.ledger.stages([each.reference for each in frames])
        return [found[each.reference][0] for each in frames]

    def close(self) -> None:
        self.transfer.stop()
        self.ledger.close()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline


def frames_of(update: dict[str, Any] | None) -> list[Frame]:
    return [replace(frame(n), path=PATH, update=update) for n in range(COUNT)]


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spool:
    spool = Spool(tmp_path / "spool")
    monkeypatch.setattr(_frame_transfer, "SpoolClient", lambda _: LocalSpoolClient(spool))
    return spool


@pytest.fixture
def folder(tmp_path: Path, spool: Spool) -> Iterator[Folder]:
    with closing(Folder(tmp_path / "folder")) as folder:
        yield folder


def array_in(root: Path, update: dict[str, Any] | None) -> np.ndarray:
    if update is None:
        with FramesReader(root / PATH) as frames:
            return frames.rows(0, COUNT)
    with UpdateReader(root / PATH) as updates:
        return updates.read()


def expected(update: dict[str, Any] | None, count: int) -> np.ndarray:
    values = np.stack([pixels(n) for n in range(count)])
    if update is SUM:
        return values.sum(axis=0)
    return values[-1] if update is LATEST else values


def assert_has_at_least(root: Path, update: dict[str, Any] | None, count: int) -> None:
    """Check that the array is that of the first `count` frames, or of more."""
    found = array_in(root, update)
    if update is None or update is CUBE:
        np.testing.assert_array_equal(found[:count], expected(update, count))
    else:
        assert any(np.array_equal(found, expected(update, n)) for n in range(count, COUNT + 1))


@MODES
def test_frames_that_are_stored_after_the_ledger_was_copied_do_not_harm_the_copy(
    update: dict[str, Any] | None, folder: Folder, spool: Spool, tmp_path: Path
) -> None:
    frames, target = frames_of(update), tmp_path / "copy"
    folder.store(spool, *frames[:3])
    copying = back_up(Layout(folder.root), target)
    next(copying)
    folder.store(spool, *frames[3:])
    assert target / PATH in list(copying)
    with closing(Folder(target)) as back:
        assert back.stages(*frames[:3]) == [ReferenceState.STORED] * 3
        back.finish(*frames)
        assert back.stages(*frames[:3]) == [ReferenceState.STORED] * 3
    assert_has_at_least(target, update, 3)


@pytest.mark.parametrize("update", [CUBE, SUM, LATEST], ids=str)
def test_an_array_that_changes_while_it_is_copied_is_copied_again(
    update: dict[str, Any], folder: Folder, spool: Spool, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    frames, target = frames_of(update), tmp_path / "copy"
    later, copy = frames[3:6], shutil.copy2
    folder.store(spool, *frames[:3])

    def slow_copy(source: Path, part: Path) -> None:
        copy(source, part)
        if later and source.name == "haadf.h5":
            folder.store(spool, later.pop(0))

    monkeypatch.setattr(shutil, "copy2", slow_copy)
    list(back_up(Layout(folder.root), target))
    assert not later and (target / PATH).read_bytes() == (folder.root / PATH).read_bytes()
    with closing(Folder(target)) as back:
        back.finish(*frames)
        assert back.stages(*frames[:6]) == [ReferenceState.STORED] * 6
        assert back.stages(*frames[6:]) == [ReferenceState.FAILED] * 2
    assert_has_at_least(target, update, 6)


@pytest.mark.parametrize("update", [CUBE, SUM, LATEST], ids=str)
def test_frames_of_an_array_that_never_rests_are_not_called_stored_unless_they_are(
    update: dict[str, Any], folder: Folder, spool: Spool, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    frames, target, copy = frames_of(update), tmp_path / "copy", shutil.copy2
    folder.store(spool, *frames[:3])

    def torn_copy(source: Path, part: Path) -> None:
        copy(source, part)
        if source.name == "haadf.h5":
            folder.store(spool, *frames[3:])
            half, new = part.stat().st_size // 2, source.read_bytes()
            part.write_bytes(part.read_bytes()[:half] + new[half:])

    monkeypatch.setattr(shutil, "copy2", torn_copy)
    monkeypatch.setattr(backup, "QUIET_TIMEOUT", 0.0)
    list(back_up(Layout(folder.root), target))
    assert "haadf.h5 changed during each copy" in caplog.text
    with closing(Folder(target)) as back:
        back.finish(*frames)
        stages = back.stages(*frames)
    assert set(stages) <= {ReferenceState.STORED, ReferenceState.FAILED}
    array = array_in(target, update)
    if update is CUBE:
        assert stages[:3] == [ReferenceState.STORED] * 3
        np.testing.assert_array_equal(array[:3], expected(CUBE, 3))
    elif update is SUM:
        stored = [n for n, stage in enumerate(stages) if stage is ReferenceState.STORED]
        np.testing.assert_array_equal(array, sum((pixels(n) for n in stored), np.zeros(SHAPE)))
