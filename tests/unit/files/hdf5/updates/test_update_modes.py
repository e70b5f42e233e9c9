"""What all modes promise, in the same sentences for each."""

import json
import random
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from bluesky_em.errors import FrameMismatch
from bluesky_em.files.hdf5.updates import Held, Update, UpdateMode, UpdateReader, open_updates
from tests.support.update_streams import OWNER, STREAMS, Stream, seen, write

ROOT = Path(__file__).parents[5]


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
def undisturbed(stream: Stream, tmp_path: Path) -> dict:
    """What is seen of a stream that was written in order, without trouble."""
    file = stream.open(tmp_path / "undisturbed.h5")
    write(file, stream.updates)
    file.close()
    return seen(tmp_path / "undisturbed.h5")


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


def test_the_array_is_what_anything_reads_at_the_usual_path(stream: Stream, path: Path):
    file = stream.open(path)
    write(file, stream.updates)
    file.close()
    with UpdateReader(path) as reader, h5py.File(path) as plain:
        if stream.declared.shape != (None, 4):
            np.testing.assert_array_equal(plain["entry/data/data"][...], reader.read())
        assert plain["entry/data"].attrs["signal"] == "data"
        assert plain["entry/updates"]["number"].tolist() == reader.numbers()
        assert json.loads(plain["entry"].attrs["updates"]) == stream.declared.dump()


READ = """
import json, sys
from pathlib import Path
from tests.support.update_streams import seen
for line in sys.stdin:
    print(json.dumps(seen(Path(line.strip()))), flush=True)
"""


@pytest.fixture(scope="module")
def elsewhere():
    """What another process sees of a file."""
    with subprocess.Popen(
        [sys.executable, "-c", READ], cwd=ROOT, stdin=-1, stdout=-1, text=True
    ) as reader:
        assert reader.stdin is not None

        def see(path: Path) -> dict:
            assert reader.stdin is not None
            assert reader.stdout is not None
            print(path, file=reader.stdin, flush=True)
            return json.loads(reader.stdout.readline())

        yield see
        reader.stdin.close()


def test_it_is_read_by_another_process_after_each_flush(
    stream: Stream, path: Path, tmp_path: Path, elsewhere: Callable[[Path], dict]
):
    file = stream.open(path)
    for batch in (stream.updates[:1], stream.updates[1:4], stream.updates[4:]):
        write(file, batch)
        closed = stream.open(tmp_path / "closed.h5")
        write(closed, batch)
        closed.close()
        assert elsewhere(path) == seen(tmp_path / "closed.h5")
    file.close()


def test_applied_twice_changes_nothing(stream: Stream, path: Path, undisturbed: dict):
    file = stream.open(path)
    for entry in stream.updates:
        write(file, [entry, entry])
        write(file, [entry])
    write(file, stream.updates)
    write(file, stream.updates[::-1])
    assert all(file.holds(update) for update, _ in stream.updates)
    file.close()
    assert seen(path) == undisturbed


def test_a_closed_file_is_gone_on_with(stream: Stream, path: Path, undisturbed: dict):
    for entry in stream.updates:
        file = stream.open(path)
        write(file, [entry])
        file.close()
        file.close()
    assert seen(path) == undisturbed
    assert [entry.name for entry in path.parent.iterdir()] == ["haadf.h5"]


def test_out_of_order_is_as_in_order(name: str, stream: Stream, path: Path, undisturbed: dict):
    shuffled = random.Random(name).sample(stream.updates, len(stream.updates))
    file = stream.open(path)
    for entry in shuffled:
        write(file, [entry])
        assert file.holds(entry[0])
    assert all(file.holds(update) for update, _ in stream.updates)
    file.close()
    told = seen(path)
    if "behind" in name:  # the order of coming decides where they are, and which others they touch
        told["array"] = undisturbed["array"] = None
        common = told["updates"].keys() & undisturbed["updates"].keys()
        for seen_of in (told, undisturbed):
            seen_of["updates"] = {number: seen_of["updates"][number] for number in common}
    assert told == undisturbed


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


def test_what_does_not_fit_is_refused_by_name_and_never_cut(stream: Stream, path: Path):
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


def test_values_that_are_not_the_updates_are_refused(stream: Stream, path: Path):
    update, values = stream.updates[0]
    file = stream.open(path)
    with pytest.raises(FrameMismatch, match="as it said itself"):
        file.write(replace(update, shape=(1, 2, 3)), values)
    file.close()


def test_an_index_that_is_none_is_refused(stream: Stream, path: Path):
    update, values = stream.updates[0]
    file = stream.open(path)
    index = (-2,) * len(stream.declared.shape)
    with pytest.raises(FrameMismatch, match=r"update 0 has index \(-2.* but was declared"):
        file.write(replace(update, index=index), values)
    file.close()


def test_other_bytes_in_the_file_are_noticed(stream: Stream, path: Path):
    update, values = stream.updates[0]
    file = stream.open(path)
    forged = replace(update, checksum=zlib.crc32(b"others"))
    write(file, [(forged, values)])
    if stream.declared.mode is not UpdateMode.ACCUMULATE:  # a sum is proved as a whole
        assert file.verify(0) is Held.ABSENT
        assert not file.holds(forged)
    assert not file.holds(update)
    file.close()


def test_a_file_of_another_owner_or_declaration_is_refused(stream: Stream, path: Path):
    stream.open(path).close()
    with pytest.raises(ValueError, match=r"haadf.h5 is of the owner run/primary/haadf, not of"):
        open_updates(path, stream.declared, "run/primary/eels")
    shape = (*stream.declared.shape[:-1], 17)
    with pytest.raises(ValueError, match=r"haadf.h5 is of the updates .*, not of .*17"):
        open_updates(path, replace(stream.declared, shape=shape), OWNER)
    stream.open(path).close()


def test_a_reader_says_which_update_is_missing(stream: Stream, path: Path):
    file = stream.open(path)
    write(file, stream.updates)
    file.close()
    with UpdateReader(path) as reader, pytest.raises(LookupError, match="holds no update 99"):
        reader.update(99)


def test_an_empty_file_is_read_as_empty(stream: Stream, path: Path):
    stream.open(path).close()
    with UpdateReader(path) as reader:
        assert (reader.numbers(), reader.count()) == ([], 0)
        if stream.declared.mode is UpdateMode.REPLACE:
            with pytest.raises(LookupError, match=r"haadf.h5 holds no whole value \(yet\)"):
                reader.read()
        else:
            assert not np.nansum(reader.read())


def test_numbers_count_from_0():
    with pytest.raises(ValueError, match="has the number -1; they count from 0"):
        Update.of(-1, np.zeros(1), time=0.0)
