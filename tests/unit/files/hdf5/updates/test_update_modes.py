"""The promises of update files, the same for every mode."""

import json
import random
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from bluesky_em.errors import FrameMismatch
from bluesky_em.files.hdf5.updates import Held, Update, UpdateMode, UpdateReader, open_updates
from tests.support.update_streams import OWNER, STREAMS, Stream, contents, write, written_in_order


@pytest.fixture(params=STREAMS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def stream(name: str) -> Stream:
    return STREAMS[name]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "haadf.h5"


@pytest.fixture
def expected(stream: Stream, tmp_path: Path) -> dict[str, Any]:
    return written_in_order(stream, tmp_path / "expected.h5")


def test_every_update_is_there(stream: Stream, path: Path):
    file = stream.open(path)
    for update, values in stream.updates:
        assert file.verify(update.number) is Held.ABSENT
        assert not file.holds(update)
        write(file, [(update, values)])
        assert file.holds(update)
        assert file.verify(update.number) in (Held.INTACT, Held.SUMMED)
    file.close()
    with UpdateReader(path) as reader:
        assert reader.numbers() == list(range(len(stream.updates)))
        assert reader.count() == len(stream.updates)


def test_the_array_is_at_the_usual_path_for_any_reader(stream: Stream, path: Path):
    file = stream.open(path)
    write(file, stream.updates)
    file.close()
    with UpdateReader(path) as reader, h5py.File(path) as plain:
        if stream.declared.shape != (None, 4):
            np.testing.assert_array_equal(plain["entry/data/data"][...], reader.read())
        assert plain["entry/data"].attrs["signal"] == "data"
        assert plain["entry/updates"]["number"].tolist() == reader.numbers()
        assert json.loads(plain["entry"].attrs["updates"]) == stream.declared.dump()


def test_applied_twice_changes_nothing(stream: Stream, path: Path, expected: dict[str, Any]):
    file = stream.open(path)
    for entry in stream.updates:
        write(file, [entry, entry])
        write(file, [entry])
    write(file, stream.updates)
    write(file, stream.updates[::-1])
    assert all(file.holds(update) for update, _ in stream.updates)
    file.close()
    assert contents(path) == expected


def test_a_closed_file_is_continued(stream: Stream, path: Path, expected: dict[str, Any]):
    for entry in stream.updates:
        file = stream.open(path)
        write(file, [entry])
        file.close()
        file.close()
    assert contents(path) == expected
    assert [entry.name for entry in path.parent.iterdir()] == ["haadf.h5"]


def test_out_of_order_is_as_in_order(
    name: str, stream: Stream, path: Path, expected: dict[str, Any]
):
    shuffled = random.Random(name).sample(stream.updates, len(stream.updates))
    file = stream.open(path)
    for entry in shuffled:
        write(file, [entry])
        assert file.holds(entry[0])
    assert all(file.holds(update) for update, _ in stream.updates)
    file.close()
    found = contents(path)
    if "behind" in name:  # the order of writing decides on indices and overlaps
        found["array"] = expected["array"] = None
        common = found["updates"].keys() & expected["updates"].keys()
        for each in (found, expected):
            each["updates"] = {number: each["updates"][number] for number in common}
    assert found == expected


def test_another_update_of_the_same_number_is_refused(stream: Stream, path: Path):
    file = stream.open(path)
    write(file, stream.updates)
    update, values = stream.updates[-1]
    other = Update.of(update.number, values + 1, time=update.time, index=update.index)
    with pytest.raises(ValueError, match=rf"update {update.number} has CRC-32 .* a new number"):
        file.write(other, values + 1)
    assert not file.holds(other)
    file.close()


def test_a_wrong_dtype_is_refused_by_name(stream: Stream, path: Path):
    file = stream.open(path)
    values = stream.updates[0][1].astype("<i2")
    with pytest.raises(FrameMismatch, match=r"update 0 has dtype <i2, but was declared: updates"):
        file.write(Update.of(0, values, time=0.0), values)
    file.close()


def test_an_update_that_does_not_fit_is_refused_by_name_and_never_cut(stream: Stream, path: Path):
    file = stream.open(path)
    last = stream.declared.shape[-1]
    if last is not None:
        values = np.zeros((*stream.updates[0][1].shape[:-1], last + 1), stream.declared.dtype)
        with pytest.raises(FrameMismatch, match=rf"update 0 has .* {last + 1} on axis \d, but was"):
            file.write(Update.of(0, values, time=0.0), values)
    values = np.zeros((1,) * 5, stream.declared.dtype)
    with pytest.raises(FrameMismatch, match=r"\(1, 1, 1, 1, 1\), but was declared: at most mode"):
        file.write(Update.of(0, values, time=0.0), values)
    assert file.verify(0) is Held.ABSENT
    file.close()


def test_values_of_another_shape_than_the_update_are_refused(stream: Stream, path: Path):
    update, values = stream.updates[0]
    file = stream.open(path)
    with pytest.raises(FrameMismatch, match="by the update itself"):
        file.write(replace(update, shape=(1, 2, 3)), values)
    file.close()


def test_an_index_that_is_not_one_is_refused(stream: Stream, path: Path):
    update, values = stream.updates[0]
    file = stream.open(path)
    index = (-2,) * len(stream.declared.shape)
    with pytest.raises(FrameMismatch, match=r"update 0 has index \(-2.* but was declared"):
        file.write(replace(update, index=index), values)
    file.close()


def test_other_bytes_in_the_file_are_detected(stream: Stream, path: Path):
    update, values = stream.updates[0]
    file = stream.open(path)
    forged = replace(update, checksum=zlib.crc32(b"others"))
    write(file, [(forged, values)])
    if stream.declared.mode is not UpdateMode.ACCUMULATE:  # a sum is verified as a whole
        assert file.verify(0) is Held.ABSENT
        assert not file.holds(forged)
    assert not file.holds(update)
    file.close()


def test_a_file_of_another_owner_or_declaration_is_refused(stream: Stream, path: Path):
    stream.open(path).close()
    with pytest.raises(ValueError, match=r"haadf.h5 has the owner run/primary/haadf, not"):
        open_updates(path, stream.declared, "run/primary/eels")
    shape = (*stream.declared.shape[:-1], 17)
    with pytest.raises(ValueError, match=r"haadf.h5 has the updates .*, not .*17"):
        open_updates(path, replace(stream.declared, shape=shape), OWNER)
    stream.open(path).close()


def test_a_reader_says_which_update_is_missing(stream: Stream, path: Path):
    file = stream.open(path)
    write(file, stream.updates)
    file.close()
    with UpdateReader(path) as reader, pytest.raises(LookupError, match="has no update 99"):
        reader.update(99)


def test_an_empty_file_is_read_as_empty(stream: Stream, path: Path):
    stream.open(path).close()
    with UpdateReader(path) as reader:
        assert (reader.numbers(), reader.count()) == ([], 0)
        if stream.declared.mode is UpdateMode.REPLACE:
            with pytest.raises(LookupError, match=r"haadf.h5 has no complete value \(yet\)"):
                reader.read()
        else:
            assert not np.nansum(reader.read())


def test_numbers_count_from_0():
    with pytest.raises(ValueError, match="has the number -1; they count from 0"):
        Update.of(-1, np.zeros(1), time=0.0)
