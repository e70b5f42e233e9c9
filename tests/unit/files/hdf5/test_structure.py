"""The structure of a growing file, kept elsewhere and put back."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from bluesky_em.files.hdf5 import FramesFile, put_back
from tests.support.simple_frames import SHAPE, frame, pixels


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "haadf.h5"


def write(file: FramesFile, rows: range) -> None:
    for row in rows:
        file.write(frame(row), pixels(row))
    file.flush()


@pytest.mark.parametrize("rows", [0, 1, 70])
def test_a_file_with_its_earlier_structure_has_the_rows_of_then(path: Path, rows: int) -> None:
    file = FramesFile(path, frame(0))
    write(file, range(rows))
    structure = file.structure()
    write(file, range(rows, rows + 200))
    file.close()
    put_back(path, structure)
    with h5py.File(path) as plain:
        assert plain["entry/data/data"].shape == (rows, *SHAPE)
        assert plain["entry/frames/number"][:].tolist() == list(range(rows))
        expected = np.array([pixels(row) for row in range(rows)]).reshape(rows, *SHAPE)
        np.testing.assert_array_equal(plain["entry/data/data"][:], expected)
    file = FramesFile(path, frame(0))
    write(file, range(rows, rows + 3))
    assert all(file.holds(frame(row)) for row in range(rows + 3))
    file.close()


def test_nothing_but_the_values_is_needed_of_a_file(path: Path) -> None:
    file = FramesFile(path, frame(0))
    write(file, range(100))
    structure, offset = file.structure(), file._pixels.id.get_chunk_info(0).byte_offset
    values = path.read_bytes()[offset:]
    file.close()
    path.write_bytes(b"\xff" * offset + values)
    put_back(path, structure)
    file = FramesFile(path, frame(0))
    assert file.holds(frame(0)) and file.holds(frame(99))
    file.close()


def test_a_structure_is_small_beside_the_values(path: Path) -> None:
    file = FramesFile(path, frame(0))
    count = 20_000
    many = replace(frame(0), count=count)
    file.write(many, np.zeros((count, *SHAPE), "<f4"))
    file.flush()
    assert len(file.structure()) < 4096 < path.stat().st_size / 100
    file.close()
