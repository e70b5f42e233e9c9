import json
import os
import stat
import zlib
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from bluesky_em.axes import Axis
from bluesky_em.files import manifest
from bluesky_em.files.ledger import Entry
from bluesky_em.frame import Frame
from bluesky_em.reference import ReferenceState

ENERGY = Axis(name="energy", units="eV", offset=0.0, scale=1.0, size=4)
Y = Axis(name="y", units="m", offset=0.0, scale=1e-9, size=2)
X = Axis(name="x", units="m", offset=0.0, scale=1e-9, size=3)


def entry(
    row: int, stage: ReferenceState = ReferenceState.CATALOGUED, *, reason: str = "", **fields: Any
) -> Entry:
    frame = Frame(
        reference=f"run.eels/{row}", run="run", stream="primary", detector="eels", number=row,
        row=row, server="PYRO:eels_server@gatan-pc:9091", path="data/run/eels.h5", shape=(4,),
        dtype="<f4", checksum=100 + row, axes=(ENERGY,), ended=1.0,
    )  # fmt: skip
    return Entry(
        frame=replace(frame, **fields), stage=stage, reason=reason, captured_at=1.0,
        stored_at=None, catalogued_at=None,
    )  # fmt: skip


def compose(entries: Iterable[Entry], *, abandoned: bool = False) -> dict[str, Any]:
    return manifest.compose("run", entries, {"primary": 3}, abandoned=abandoned)


def checksum(*frames: int) -> int:
    return zlib.crc32(b"".join(each.to_bytes(4, "little") for each in frames))


def test_a_manifest_counts_references_by_stage_and_events_by_stream():
    account = compose([entry(0), entry(1), entry(2, ReferenceState.FAILED, reason="gone")])
    assert account["run"] == "run" and account["complete"] is True
    assert account["references"] == {"catalogued": 2, "failed": 1}
    assert account["events"] == {"primary": 3}
    assert account["versions"].keys() >= {"python", "bluesky-em", "tiled", "h5py"}


@pytest.mark.parametrize("abandoned", [True, False])
def test_a_manifest_records_whether_the_process_of_the_run_died(abandoned: bool):
    assert compose([], abandoned=abandoned)["abandoned"] is abandoned


def test_a_failed_frame_is_listed_with_its_reason_and_as_a_gap_of_its_file():
    account = compose([entry(2), entry(1, ReferenceState.FAILED, reason="gone"), entry(0)])
    assert account["failed"] == {"run.eels/1": "gone"}
    (file,) = account["files"]
    assert (file["path"], file["stream"], file["detector"]) == (
        "data/run/eels.h5", "primary", "eels"
    )  # fmt: skip
    assert (file["shape"], file["dtype"]) == ([3, 4], "<f4")
    assert file["gaps"] == [1]
    assert file["checksum"] == checksum(100, 102)


def test_each_file_has_its_own_account_and_frames_in_no_event_have_none():
    dark = entry(0, path="data/run/eels.dark.h5", stream="dark")
    unread = entry(1, ReferenceState.FAILED, reason="in no event", path="")
    account = compose([dark, entry(0), unread])
    assert [file["path"] for file in account["files"]] == [
        "data/run/eels.dark.h5", "data/run/eels.h5"
    ]  # fmt: skip
    assert account["failed"] == {"run.eels/1": "in no event"}


def test_a_failed_block_is_one_failure_and_a_gap_for_each_of_its_rows():
    block = entry(1, ReferenceState.FAILED, reason="gone", count=3)
    account = compose([entry(0), block])
    assert account["references"] == {"catalogued": 1, "failed": 3}
    assert account["failed"] == {"run.eels/1": "gone"}
    assert account["files"][0]["gaps"] == [1, 2, 3]
    assert account["files"][0]["shape"] == [4, 4]


def test_a_scan_that_ended_early_is_a_map_with_the_number_of_its_points():
    metadata = {"scan": [asdict(Y), asdict(X)]}
    account = compose([entry(0, count=3, metadata=metadata), entry(3, count=1, metadata=metadata)])
    assert account["files"][0]["maps"] == [{"shape": [2, 3], "taken": 4, "row": 0}]


def test_a_manifest_is_json_and_replaces_an_earlier_one(tmp_path: Path):
    folder = tmp_path / "run"
    manifest.write({"run": "an earlier one"}, folder)
    account = compose([entry(0), entry(1, ReferenceState.FAILED, reason="gone")])
    manifest.write(account, folder)
    assert json.loads((folder / manifest.NAME).read_text()) == account
    assert [path.name for path in folder.iterdir()] == ["manifest.json"]


def test_a_manifest_is_on_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    synced: list[int] = []
    fsync, rename = os.fsync, os.replace

    def record(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            synced.append(os.fstat(descriptor).st_size)
        fsync(descriptor)

    def check(source: Path, target: Path) -> None:
        assert synced == [source.stat().st_size]
        rename(source, target)

    monkeypatch.setattr(os, "fsync", record)
    monkeypatch.setattr(os, "replace", check)
    manifest.write(compose([entry(0)]), tmp_path)
    assert synced[0] > 0


def test_a_damaged_file_that_was_replaced_is_named(tmp_path: Path) -> None:
    (tmp_path / "eels.h5.damaged").touch()
    (tmp_path / "eels.h5").touch()
    account = manifest.compose("run", [entry(0)], {}, abandoned=False, folder=tmp_path)
    assert account["damaged"] == ["eels.h5.damaged"]


def test_a_manifest_has_a_checksum_of_each_block_of_the_journal(tmp_path: Path):
    journal = tmp_path / "run.msgpack"
    journal.write_bytes(bytes(manifest.BLOCK) + b"end")
    found = manifest.checksums(journal)
    assert found["bytes"] == manifest.BLOCK + 3
    assert found["checksums"] == [zlib.crc32(bytes(found["block"])), zlib.crc32(b"end")]


def test_a_manifest_is_read_back_and_a_damaged_one_is_none(tmp_path: Path):
    manifest.write(compose([entry(0)]), tmp_path)
    assert manifest.read(tmp_path) == compose([entry(0)])
    (tmp_path / manifest.NAME).write_text('{"run"')
    assert manifest.read(tmp_path) is None and manifest.read(tmp_path / "nowhere") is None
