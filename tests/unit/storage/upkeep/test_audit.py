"""Findings of `verify` in the files of a run, without Tiled."""

import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import pytest

from bluesky_em.axes import Axis
from bluesky_em.files import manifest, master
from bluesky_em.files.ledger_writer import LedgerWriter
from bluesky_em.storage.upkeep.audit import FindingKind, audit_run
from tests.support.recorded_run import ENERGY, Recorded

OTHER = Axis(name="energy", units="eV", offset=10.0, scale=2.0, size=6)


class Audited(Recorded):
    """A complete run of a single frame, a block of three, and a frame with another axis."""

    def __init__(self, root: Path):
        super().__init__(root)
        self.ledger = LedgerWriter(root / "ledger.sqlite")
        self.frame()
        self.frame(count=3)
        self.frame(axes=(OTHER,))
        self.close()
        self.frames = [replace(frame, checksum=self.checksum(frame)) for frame in self.frames]
        self.ledger.add_run(self.uid)
        self.ledger.add_frames(self.frames)
        self.ledger.mark_stored(self.frames)
        self.ledger.mark_catalogued([frame.reference for frame in self.frames])
        self.account()
        self.ledger.complete_run(self.uid)

    @staticmethod
    def checksum(frame: Any) -> int:
        pixels = [Recorded.pixels(frame, number).tobytes() for number in frame.numbers]
        return zlib.crc32(b"".join(pixels))

    def account(self, **master_entry: Any) -> None:
        entries = self.ledger.frames(self.uid)
        account = manifest.compose(self.uid, entries, {}, abandoned=False, folder=self.folder)
        written = master.write(self.layout, self.layout.journal_of(self.uid), self.frames, account)
        manifest.write({**account, "master": master_entry or written}, self.folder)

    def findings(self) -> list[str]:
        return [str(finding) for finding in audit_run(self.layout, self.ledger, self.uid)]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Audited]:
    run = Audited(tmp_path)
    yield run
    run.ledger.close()


def test_nothing_is_found_in_an_unchanged_run(run: Audited):
    assert run.findings() == []


@pytest.mark.parametrize("name", ["number", "time", "checksum", "axis_offset", "axis_scale"])
@pytest.mark.parametrize("row", [0, 2, 4])
def test_a_changed_column_is_found(run: Audited, name: str, row: int):
    with h5py.File(run.folder / "eels.h5", "r+", libver="latest") as file:
        column: Any = file[f"entry/frames/{name}"]
        column[row] += 7
    (found,) = run.findings()
    assert found.startswith("wrong: ") and f": {name} in row" in found


def test_changed_axes_and_units_and_another_owner_are_found(run: Audited):
    with h5py.File(run.folder / "eels.h5", "r+", libver="latest") as file:
        axis: Any = file["entry/data/energy"]
        axis[...] = axis[...] * 2
    assert "the axes in" in run.findings()[0]
    with h5py.File(run.folder / "eels.h5", "r+", libver="latest") as file:
        axis = file["entry/data/energy"]
        axis[...] = ENERGY.values
        axis.attrs["units"] = "m"
        file["entry"].attrs["owner"] = "another"
    owner, axes = run.findings()
    assert "frames of another" in owner and "the axes in" in axes


def test_a_removed_column_is_found(run: Audited):
    with h5py.File(run.folder / "eels.h5", "r+", libver="latest") as file:
        del file["entry/frames/time"]
    assert "cannot be read" in run.findings()[0]


def flip(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


CHANGES = {"flipped": flip, "shorter": lambda path: path.write_bytes(b"x"), "gone": Path.unlink}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_master_file_is_found(run: Audited, change: str):
    CHANGES[change](run.folder / f"{run.uid}.nxs")
    (found,) = run.findings()
    kind = FindingKind.LOST if change == "gone" else FindingKind.WRONG
    assert found.startswith(f"{kind.value}: ") and "master file" in found


def test_a_master_file_without_checksum_must_only_open(run: Audited):
    path = run.folder / f"{run.uid}.nxs"
    run.account(format="nexus", path=path.relative_to(run.layout.root).as_posix(), failure="")
    flip(path)
    assert run.findings() == []
    path.write_bytes(b"x")
    assert "the master file cannot be read" in run.findings()[0]


def test_a_run_whose_master_file_could_not_be_written_is_as_it_should_be(run: Audited):
    run.account(format="broken", path="", failure="it did not work out")
    assert run.findings() == []
