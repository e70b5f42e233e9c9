"""Power cuts: any sectors written since the last fsync may be missing on the disk."""

import json
import os
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import pytest

from bluesky_em.files.hdf5.updates import UpdateMode
from tests.support.update_streams import STREAMS, contents, write, written_in_order

POWER_CUTS = 4  # per stream and batch size; --long: one after each fsync


@pytest.fixture(params=STREAMS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("batch", [1, 3])
def test_updates_since_the_last_fsync_are_written_again_after_a_power_cut(
    name: str, batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, long: bool
):
    expected = written_in_order(STREAMS[name], tmp_path / "expected.h5")
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
    moments = [*pairwise(on_disk)]
    dice.shuffle(moments)
    for (before, confirmed), (after, _) in moments if long else moments[:POWER_CUTS]:
        torn.write_bytes(after)
        torn.write_bytes(cut(before, after, chunks_of(torn), dice))
        again = stream.open(torn)
        for update, _ in stream.updates[:confirmed]:
            is_readable = str(update.number) in expected["updates"]
            if is_readable or stream.declared.mode is not UpdateMode.ADD_SLICE:
                assert again.holds(update)  # one that a newer one overlaps may be half overwritten
        write(again, stream.updates[confirmed:])
        assert all(again.holds(update) for update, _ in stream.updates)
        again.close()
        assert without_nan(contents(torn)) == without_nan(expected)


def without_nan(found: dict) -> dict:
    """Replace NaN by 0: an element that was never written may be 0 after a power cut."""
    return json.loads(json.dumps(found).replace("NaN", "0.0"))


def chunks_of(path: Path) -> list[range]:
    """Return the places in the file of the data of all datasets, not of HDF5's own data."""
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
    """Reset random sectors of the data to their bytes before; the file keeps its new size."""
    torn = bytearray(after)
    for chunk in chunks:
        for start in range(chunk.start, chunk.stop, 512):
            if dice.random() < 0.5:
                end = min(start + 512, chunk.stop)
                torn[start:end] = before[start:end].ljust(end - start, b"\0")
    return bytes(torn)
