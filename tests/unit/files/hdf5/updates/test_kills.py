"""Writers that are killed: at every step, at random moments, and by a power cut."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import pytest

from bluesky_em.files.hdf5.updates import Held, UpdateMode, UpdateReader
from tests.support.update_streams import STREAMS, Stream, seen, write

ROOT = Path(__file__).parents[5]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks a writer for each kill")


@pytest.fixture(scope="module")
def killed():
    """Have a writer started and killed; gives how many updates it had flushed, and its end."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.killed_writer"],
        cwd=ROOT, stdin=-1, stdout=-1, text=True,
    ) as nursery:  # fmt: skip
        assert nursery.stdin is not None

        def kill(**order: Any) -> tuple[int, str]:
            assert nursery.stdin is not None
            assert nursery.stdout is not None
            print(json.dumps(order), file=nursery.stdin, flush=True)
            answer = json.loads(nursery.stdout.readline())
            return answer["flushed"], answer["how"]

        yield kill
        nursery.stdin.close()


@pytest.fixture(params=STREAMS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def undisturbed(name: str, tmp_path: Path) -> dict:
    path = tmp_path / "undisturbed.h5"
    file = STREAMS[name].open(path)
    write(file, STREAMS[name].updates)
    file.close()
    return seen(path)


def check_reader(stream: Stream, path: Path, flushed: int) -> None:
    """Before any repair, a reader sees every flushed update, and never half of one."""
    if path.exists() and flushed:
        with UpdateReader(path) as reader:
            assert set(range(flushed)) <= set(reader.numbers())
            if stream.declared.mode is UpdateMode.REPLACE:
                newest = max(reader.versions())
                assert newest >= flushed - 1
                assert (reader.read() == stream.updates[newest][1]).all()
            if stream.declared.mode is UpdateMode.ACCUMULATE:
                summed = [stream.updates[number][1] for number in reader.numbers()]
                total = sum(values.astype(stream.declared.sum_dtype) for values in summed)
                assert (reader.read() == total).all()


def check_going_on(stream: Stream, path: Path, flushed: int) -> dict:
    """Opened again, it has every flushed update; the others are written as they come."""
    check_reader(stream, path, flushed)
    file = stream.open(path)
    for update, _ in stream.updates[:flushed]:
        assert file.holds(update)
    for entry in stream.updates[flushed:]:
        write(file, [entry])
        assert file.verify(entry[0].number) is not Held.ABSENT
    file.close()
    return seen(path)


@needs_fork
def test_killed_at_any_step_and_gone_on_is_as_if_nothing_had_happened(
    name: str, tmp_path: Path, undisturbed: dict, killed: Callable[..., tuple[int, str]]
):
    ends = []
    dice = random.Random(name)
    for step in range(dice.randrange(9), 2000, dice.choice([9, 11, 13])):
        path = tmp_path / f"{step}.h5"
        flushed, how = killed(name=name, path=str(path), batch=2, step=step)
        assert check_going_on(STREAMS[name], path, flushed) == undisturbed
        ends.append(how)
        if how != "killed":
            break
    assert ends[-1] == "exit 0"
    assert len(ends) > 4


@needs_fork
def test_killed_at_a_random_moment_and_gone_on_is_as_if_nothing_had_happened(
    name: str, tmp_path: Path, undisturbed: dict, killed: Callable[..., tuple[int, str]]
):
    dice = random.Random(name)
    for attempt in range(8):
        path = tmp_path / f"{attempt}.h5"
        moment = dice.uniform(0.001, 0.02)
        flushed, _ = killed(name=name, path=str(path), batch=1, seconds=moment)
        assert check_going_on(STREAMS[name], path, flushed) == undisturbed


@needs_fork
def test_killed_again_and_again_it_is_as_if_nothing_had_happened(
    name: str, tmp_path: Path, undisturbed: dict, killed: Callable[..., tuple[int, str]]
):
    path = tmp_path / "haadf.h5"
    for step in range(5, 125, 23):
        killed(name=name, path=str(path), batch=3, step=step)
    assert check_going_on(STREAMS[name], path, 0) == undisturbed


@pytest.mark.parametrize("batch", [1, 3])
def test_what_a_power_cut_left_since_the_last_fsync_is_written_again(
    name: str, batch: int, tmp_path: Path, undisturbed: dict, monkeypatch: pytest.MonkeyPatch
):
    stream, path, torn = STREAMS[name], tmp_path / "haadf.h5", tmp_path / "torn.h5"
    dice = random.Random(name)
    on_disk: list[tuple[bytes, int]] = []
    confirmed = 0
    file = stream.open(path)
    with monkeypatch.context() as watched:
        watched.setattr(os, "fsync", lambda _: on_disk.append((path.read_bytes(), confirmed)))
        file.flush()
        for start in range(0, len(stream.updates), batch):
            fsyncs = len(on_disk)
            write(file, stream.updates[start : start + batch])
            assert len(on_disk) > fsyncs
            confirmed = min(start + batch, len(stream.updates))
        file.close()
    for (before, confirmed), (after, _) in pairwise(on_disk):
        torn.write_bytes(after)
        torn.write_bytes(cut(before, after, chunks_of(torn), dice))
        again = stream.open(torn)
        for update, _ in stream.updates[:confirmed]:
            is_readable = str(update.number) in undisturbed["updates"]
            if is_readable or stream.declared.mode is not UpdateMode.ADD_SLICE:
                assert again.holds(update)  # one that a newer one touches may be half overwritten
        write(again, stream.updates[confirmed:])
        assert all(again.holds(update) for update, _ in stream.updates)
        again.close()
        assert without_nan(seen(torn)) == without_nan(undisturbed)


def without_nan(told: dict) -> dict:
    """What was never written may be 0 after a power cut."""
    return json.loads(json.dumps(told).replace("NaN", "0.0"))


def chunks_of(path: Path) -> list[range]:
    """Where in the file the data of all datasets are, not HDF5's own."""
    found: list[range] = []

    def visit(_: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.chunks is not None:
            for index in range(item.id.get_num_chunks()):
                info = item.id.get_chunk_info(index)
                found.append(range(info.byte_offset, info.byte_offset + info.size))

    with h5py.File(path, "r", libver="latest", swmr=True) as file:
        file.visititems(visit)
    return found


def cut(before: bytes, after: bytes, chunks: list[range], dice: random.Random) -> bytes:
    """Take any sectors of the data back to what they were, in a file that grew otherwise."""
    torn = bytearray(after)
    for chunk in chunks:
        for start in range(chunk.start, chunk.stop, 512):
            if dice.random() < 0.5:
                end = min(start + 512, chunk.stop)
                torn[start:end] = before[start:end].ljust(end - start, b"\0")
    return bytes(torn)
