import zlib
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from bluesky_em.errors import FrameMismatch
from bluesky_em.files.hdf5 import FramesFile, FramesReader
from tests.support.simple_frames import SHAPE, frame, pixels


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "2024" / "run" / "haadf.h5"


@pytest.fixture
def file(path: Path):
    file = FramesFile(path, frame(0))
    yield file
    file.close()


def test_a_reader_finds_rows_by_number_or_says_which_is_missing(file: FramesFile, path: Path):
    file.write(frame(0, number=5), pixels(5))
    file.flush()
    with FramesReader(path) as reader:
        assert reader.row_of(5) == 0
        with pytest.raises(LookupError, match=r"haadf.h5 holds no frame with number 6"):
            reader.row_of(6)


def test_the_checksum_is_that_of_the_bytes_in_the_file(file: FramesFile):
    for row in range(70):  # more than one chunk
        file.write(frame(row), pixels(row))
    file.flush()
    for row in (0, 1, 63, 64, 69):
        assert file.checksum(range(row, row + 1)) == frame(row).checksum


def test_each_of_many_small_frames_is_found_right_after_its_flush(file: FramesFile):
    for row in range(5):  # of one chunk: bytes that were read of it before must not be cached
        file.write(frame(row), pixels(row))
        file.flush()
        assert file.holds(frame(row))


def test_the_checksum_notices_other_bytes(file: FramesFile):
    file.write(frame(0), pixels(1))
    file.flush()
    assert file.checksum(range(1)) != frame(0).checksum


def test_writing_a_frame_again_replaces_it_by_the_same(file: FramesFile, path: Path):
    for _ in range(2):
        file.write(frame(0), pixels(0))
        file.flush()
    file.close()
    with h5py.File(path) as plain:
        np.testing.assert_array_equal(plain["entry/data/data"], [pixels(0)])
        assert plain["entry/frames/number"][:].tolist() == [0]


def test_rows_may_be_written_out_of_order(file: FramesFile, path: Path):
    file.write(frame(2), pixels(2))
    file.write(frame(0), pixels(0))
    file.close()
    with h5py.File(path) as plain:
        assert plain["entry/frames/number"][:].tolist() == [0, -1, 2]
        np.testing.assert_array_equal(plain["entry/data/data"][2], pixels(2))


@pytest.mark.parametrize(("dtype", "fill"), [("<f4", np.nan), ("<f8", np.nan), ("<u2", 0)])
def test_a_lost_row_holds_the_fill_value(path: Path, dtype: str, fill: float):
    file = FramesFile(path, frame(0, dtype=dtype))
    file.extend(1)
    file.write(frame(1, dtype=dtype), pixels(1, dtype))
    file.extend(1)
    file.close()
    with h5py.File(path) as plain:
        data = plain["entry/data/data"]
        assert (data.shape, data.dtype) == ((2, *SHAPE), np.dtype(dtype))
        np.testing.assert_array_equal(data[0], np.full(SHAPE, fill))
        assert plain["entry/frames/number"][:].tolist() == [-1, 1]
        assert np.isnan(plain["entry/frames/time"][0])


def test_a_closed_file_is_nxdata_that_anything_can_plot(file: FramesFile, path: Path):
    file.write(frame(0), pixels(0))
    file.close()
    with h5py.File(path) as plain:
        assert plain.attrs["default"] == "entry"
        assert plain["entry"].attrs["NX_class"] == "NXentry"
        data = plain["entry"][plain["entry"].attrs["default"]]
        assert data.attrs["NX_class"] == "NXdata"
        assert data.attrs["signal"] == "data"
        assert list(data.attrs["axes"]) == [".", "y", "x"]
        assert (data.attrs["y_indices"], data.attrs["x_indices"]) == (1, 2)
        assert data["y"][:].tolist() == [0.0, 2.0, 4.0]
        assert data["x"].attrs["units"] == "m"
        assert plain["entry/title"][()].decode() == "haadf in run run, stream primary"


def test_every_frame_keeps_its_own_calibration_time_and_checksum(file: FramesFile, path: Path):
    file.write(frame(0), pixels(0))
    file.write(frame(1, offset=9.0), pixels(1))
    file.close()
    with h5py.File(path) as plain:
        rows = plain["entry/frames"]
        assert rows["axis_offset"][:].tolist() == [[0.0, -1.0], [9.0, -1.0]]
        assert rows["axis_scale"][1].tolist() == [2.0, 0.5]
        assert rows["time"][:].tolist() == [1000.0, 1001.0]
        assert rows["checksum"][1] == frame(1).checksum


def test_a_closed_file_is_continued_when_opened_again(file: FramesFile, path: Path):
    file.write(frame(0), pixels(0))
    file.close()
    again = FramesFile(path, frame(1))
    again.write(frame(1), pixels(1))
    again.flush()
    assert again.checksum(range(1)) == frame(0).checksum
    again.close()
    with h5py.File(path) as plain:
        assert plain["entry/frames/number"][:].tolist() == [0, 1]


def test_closing_twice_is_harmless_and_leaves_only_the_file(file: FramesFile, path: Path):
    file.close()
    file.close()
    assert [entry.name for entry in path.parent.iterdir()] == ["haadf.h5"]


def test_an_incomplete_file_of_a_killed_writer_is_created_again(path: Path):
    path.parent.mkdir(parents=True)
    path.with_name(f"{path.name}.part").write_bytes(b"torn")
    file = FramesFile(path, frame(0))
    file.write(frame(0), pixels(0))
    file.close()
    assert [entry.name for entry in path.parent.iterdir()] == ["haadf.h5"]


def test_a_block_is_in_its_rows_with_a_number_and_a_checksum_for_each(path: Path):
    many = np.stack([pixels(number) for number in range(70)])
    block = replace(frame(2), number=0, count=70, checksum=zlib.crc32(many.tobytes()))
    file = FramesFile(path, block)
    file.write(frame(1, number=90), pixels(90))
    file.write(block, many)
    file.flush()
    assert file.holds(block) and not file.holds(replace(block, checksum=0))
    of_documents = replace(block, checksum=0, ended=0.0)
    assert file.holds(of_documents) and file.describe(of_documents) == block
    file.close()
    with FramesReader(path) as reader:
        assert reader.numbers() == [-1, 90, *range(70)]
        np.testing.assert_array_equal(reader.rows(2, 70), many)
        assert reader.row_of(69) == 71


def test_frames_that_are_single_numbers_have_a_file_too(path: Path):
    signal = np.arange(5000, dtype="<f4")
    block = replace(frame(0), shape=(), axes=(), count=5000, checksum=zlib.crc32(signal.tobytes()))
    file = FramesFile(path, block)
    file.write(block, signal)
    file.flush()
    assert file.holds(block)
    file.close()
    with h5py.File(path) as plain:
        np.testing.assert_array_equal(plain["entry/data/data"][:], signal)


def test_a_frame_of_another_size_is_refused_with_both_sizes(file: FramesFile):
    wrong = replace(frame(1), shape=(3, 5))
    with pytest.raises(FrameMismatch, match=r"run\.haadf/1 has shape \(3, 5\) and dtype <f4, but"):
        file.write(wrong, np.zeros((3, 5), "<f4"))
