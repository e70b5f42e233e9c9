from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from bluesky_em.files.hdf5 import FramesReader
from bluesky_em.files.hdf5.updates import UpdateReader
from bluesky_em.files.ledger_writer import LedgerWriter
from bluesky_em.frame import Frame
from bluesky_em.storage.writer._file_records import FileRecords, kept
from bluesky_em.storage.writer._open_files import OpenFiles
from tests.support.simple_frames import SHAPE, frame, pixels

SUM = {"mode": "accumulate", "shape": [*SHAPE], "dtype": "<f4"}


def open_files(folder: Path, limit: int) -> OpenFiles:
    ledger = LedgerWriter(folder / "ledger.sqlite")
    return OpenFiles(folder, FileRecords(ledger), lambda _: None, limit)


def handles(folder: Path) -> int:
    return sum(file.path.endswith(".h5") for file in psutil.Process().open_files())


@pytest.mark.parametrize("update", [None, SUM])
def test_of_the_files_of_many_runs_only_those_used_last_are_open(
    tmp_path: Path, update: dict[str, Any] | None
):
    files = open_files(tmp_path, limit=3)
    names = [f"{number}.h5" for number in range(8)]

    def of_file(name: str, row: int) -> Frame:
        return replace(frame(row), path=name, update=update)

    for row in range(3):
        for name in names:
            files.of(of_file(name, row)).write(of_file(name, row), pixels(row))
            assert handles(tmp_path) <= 3 * 2
    assert handles(tmp_path) > 0
    for name in names:
        files.flush(name)
    for name in names:
        assert all(files.of(of_file(name, row)).holds(of_file(name, row)) for row in range(3))
    for name in names:
        files.finish(of_file(name, 0))
    assert handles(tmp_path) == 0
    for name in names:
        assert_has_three(tmp_path / name, update)


def assert_has_three(path: Path, update: dict[str, Any] | None) -> None:
    if update is not None:
        with UpdateReader(path) as reader:
            assert np.array_equal(reader.read(), sum(pixels(row) for row in range(3)))
        return
    with FramesReader(path) as reader:
        assert np.array_equal(reader.rows(0, 3), [pixels(row) for row in range(3)])


def test_the_file_that_was_used_last_stays_open(tmp_path: Path):
    files = open_files(tmp_path, limit=2)
    often, second, third = (replace(frame(0), path=f"{n}.h5") for n in range(3))
    first = files.of(often)
    files.of(second)
    assert files.of(often) is first
    files.of(third)
    assert files.of(often) is first
    files.close()


def test_a_stored_sum_that_is_gone_from_its_unclosed_file_is_taken_back(tmp_path: Path):
    ledger, lost, path = LedgerWriter(tmp_path / "ledger.sqlite"), [], tmp_path / "haadf.h5"
    frames = [replace(frame(row), update=SUM) for row in range(3)]
    files = OpenFiles(tmp_path, FileRecords(ledger), lost.extend)
    for each in frames:
        files.of(each).write(each, pixels(each.row))
    files.flush("haadf.h5")
    ledger.add_frames(frames)
    structure = files.structure("haadf.h5")
    assert structure is not None
    ledger.mark_stored(frames, [kept(frames[0], structure)])
    left = path.read_bytes()
    files.close()
    total = sum(pixels(row, "<f8") for row in range(3)).tobytes()
    assert left.count(total) == 2  # in its slot, and where others read it
    path.write_bytes(left.replace(total, bytes(len(total))))
    files = OpenFiles(tmp_path, FileRecords(ledger), lost.extend)
    files.of(frames[0])
    assert [each.reference for each in lost] == [each.reference for each in frames]
    assert (tmp_path / "haadf.h5.damaged").exists()
    files.close()
