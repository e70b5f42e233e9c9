"""Kills of the writer of an update file: at any step, at random moments, and again and again."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bluesky_em.files.hdf5.updates import Held, UpdateMode, UpdateReader
from tests.support.update_streams import STREAMS, Stream, contents, write, written_in_order

KILLS = 6  # per stream and test
LONG_KILLS = 60
ROOT = Path(__file__).parents[2]
Kill = Callable[..., dict[str, Any]]

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork"),
    reason="each kill ends a forked writer, and this system cannot fork",
)


@pytest.fixture(scope="module")
def kill() -> Iterator[Kill]:
    """Start a writer, kill it as requested, and return its report."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.killed_writer"],
        cwd=ROOT, stdin=-1, stdout=-1, text=True,
    ) as process:  # fmt: skip

        def request(**fields: Any) -> dict[str, Any]:
            assert process.stdin is not None and process.stdout is not None
            print(json.dumps(fields), file=process.stdin, flush=True)
            return json.loads(process.stdout.readline())

        yield request
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def kills(long: bool) -> int:
    return LONG_KILLS if long else KILLS


@pytest.fixture(params=STREAMS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def expected(name: str, tmp_path: Path) -> dict[str, Any]:
    return written_in_order(STREAMS[name], tmp_path / "expected.h5")


def check_reader(stream: Stream, path: Path, flushed: int) -> None:
    """Before any repair, a reader returns every flushed update, and never a part of one."""
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


def contents_after_the_rest(stream: Stream, path: Path, flushed: int) -> dict[str, Any]:
    """Open the file again, which has every flushed update; write the others; return all."""
    check_reader(stream, path, flushed)
    file = stream.open(path)
    for update, _ in stream.updates[:flushed]:
        assert file.holds(update)
    for entry in stream.updates[flushed:]:
        write(file, [entry])
        assert file.verify(entry[0].number) is not Held.ABSENT
    file.close()
    return contents(path)


def test_a_kill_at_any_step_leaves_no_trace_once_the_rest_is_written(
    name: str, tmp_path: Path, expected: dict[str, Any], kill: Kill, kills: int
):
    whole = kill(name=name, path=str(tmp_path / "whole.h5"), batch=2)
    assert (whole["end"], whole["flushed"]) == ("exit 0", len(STREAMS[name].updates))
    steps = random.Random(name).sample(range(whole["steps"]), min(kills, whole["steps"]))
    for step in steps:
        path = tmp_path / f"{step}.h5"
        report = kill(name=name, path=str(path), batch=2, step=step)
        assert report["end"] == "killed"
        assert contents_after_the_rest(STREAMS[name], path, report["flushed"]) == expected


def test_a_kill_at_a_random_moment_leaves_no_trace_once_the_rest_is_written(
    name: str, tmp_path: Path, expected: dict[str, Any], kill: Kill, kills: int
):
    dice = random.Random(name)
    for attempt in range(kills):
        path = tmp_path / f"{attempt}.h5"
        report = kill(name=name, path=str(path), batch=1, seconds=dice.uniform(0.001, 0.02))
        assert contents_after_the_rest(STREAMS[name], path, report["flushed"]) == expected


def test_kills_again_and_again_leave_no_trace_once_the_rest_is_written(
    name: str, tmp_path: Path, expected: dict[str, Any], kill: Kill, kills: int
):
    path = tmp_path / "haadf.h5"
    for step in range(5, 5 + 23 * kills, 23):
        kill(name=name, path=str(path), batch=3, step=step)
    assert contents_after_the_rest(STREAMS[name], path, 0) == expected
