"""Power cuts of a PC at random moments: what has been promised is there, nothing is wrong.

Anything written since the last fsync is on the disk or not, page by page; see `Disk`.
"""

import json
import random
import sqlite3
import zlib
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bluesky_em.acquisition.instrument_pc.driver import Exposure
from bluesky_em.acquisition.instrument_pc.spool import Spool
from bluesky_em.axes import Axis
from bluesky_em.files import manifest
from bluesky_em.files.atomic import whole_file
from bluesky_em.files.journal import Journal
from bluesky_em.files.journal_reader import DamagedJournal, read
from bluesky_em.files.journal_repair import repair
from bluesky_em.files.ledger_writer import KeptStructure, LedgerWriter
from bluesky_em.frame import Frame
from bluesky_em.reference import ReferenceState
from bluesky_em.storage.writer._file_records import FileRecords
from bluesky_em.storage.writer._open_files import OpenFiles
from tests.support.ledger_frame import frame as ledger_frame
from tests.support.power_cut import Disk, PowerCut
from tests.support.update_streams import STREAMS, contents, written_in_order

CASES = 5  # of each format; with --long MANY
MANY = 500
Case = Callable[[random.Random, Path], None]


@pytest.fixture
def repeat(tmp_path: Path, long: bool) -> Callable[[Case], None]:
    """Run a case with many seeds, each in a folder of its own; the seed of a failure is printed."""

    def run(case: Case) -> None:
        first = random.randrange(2**32)
        for seed in range(first, first + (MANY if long else CASES)):
            print(f"seed {seed}")
            folder = tmp_path / f"{seed}"
            (folder / "before").mkdir(parents=True)
            (folder / "after").mkdir()
            case(random.Random(seed), folder)

    return run


class Records(FileRecords):
    """What the ledger would have of one file."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.kept: bytes | None = None

    def stored(self, frame: Frame) -> list[Frame]:
        return self.frames

    def structure(self, frame: Frame) -> bytes | None:
        return self.kept

    def keep(self, frame: Frame, structure: bytes) -> None:
        self.kept = structure

    def forget(self, frame: Frame) -> None:
        self.kept = None


def spectrum(number: int, size: int) -> tuple[Frame, np.ndarray]:
    pixels = np.random.default_rng(number).random(size).astype("<f4")
    axis = Axis(name="energy", units="eV", offset=number / 2, scale=1.0, size=size)
    frame = Frame(
        reference=f"run.eels/{number}", run="run", stream="primary", detector="eels",
        number=number, row=number, server="", path="eels.h5", shape=(size,), dtype="<f4",
        checksum=zlib.crc32(pixels.data), axes=(axis,), ended=1.0 + number,
    )  # fmt: skip
    return frame, pixels


def store(files: OpenFiles, records: Records, frames: list[tuple[Frame, np.ndarray]]) -> None:
    """Store frames as a writer does: write, flush, verify, record."""
    first, _ = frames[0]
    file = files.of(first)
    for frame, pixels in frames:
        file.write(frame, pixels)
    files.flush(first.path)
    assert all(file.holds(frame) for frame, _ in frames)
    structure = files.structure(first.path)
    assert structure is not None
    records.kept = structure
    records.frames += [frame for frame, _ in frames]


def store_until_the_power_is_cut(
    rng: random.Random, folder: Path, frames: list[tuple[Frame, np.ndarray]]
) -> Records:
    """Store frames in batches; leave what is on the disk after the power cut in `after`."""
    records, before = Records(), folder / "before"
    disk, files = Disk(before, rng), OpenFiles(before, records, lambda _: None)
    with suppress(PowerCut), disk.watch(rng.randrange(2, 12)):
        left = frames
        while left:
            size = rng.choice([1, 3, 20, 64])
            store(files, records, left[:size])
            left = left[size:]
            if rng.random() < 0.2:
                files.finish(frames[0][0])
        raise PowerCut
    disk.left(folder / "after")
    files.close()
    return records


def store_the_rest(
    folder: Path, records: Records, frames: list[tuple[Frame, np.ndarray]]
) -> OpenFiles:
    """Store the frames that are not recorded, which are still in the spool, as the next writer."""
    lost: list[Frame] = []
    files = OpenFiles(folder / "after", records, lost.extend)
    known = {frame.reference for frame in records.frames}
    files.of(frames[0][0])
    rest = [each for each in frames if each[0].reference not in known]
    if rest:
        store(files, records, rest)
    assert lost == []
    return files


def test_no_stored_frame_is_lost(repeat: Callable[[Case], None]) -> None:
    def case(rng: random.Random, folder: Path) -> None:
        size = rng.choice([16, 600, 2048, 30_000])
        frames = [spectrum(number, size) for number in range(rng.choice([5, 70, 200]))]
        records = store_until_the_power_is_cut(rng, folder, frames)
        files = store_the_rest(folder, records, frames)
        assert all(files.of(frame).holds(frame) for frame, _ in frames)
        files.close()
        assert not [*(folder / "after").glob("*.damaged")]

    repeat(case)


@pytest.mark.parametrize("name", STREAMS)
def test_no_stored_update_is_lost(
    name: str, repeat: Callable[[Case], None], tmp_path: Path
) -> None:
    stream = STREAMS[name]
    expected = written_in_order(stream, tmp_path / "expected.h5")

    def updates() -> list[tuple[Frame, np.ndarray]]:
        run, name, detector = "run", "primary", "haadf"
        return [
            (
                Frame(
                    reference=f"{run}.{detector}/{update.number}", run=run, stream=name,
                    detector=detector, number=update.number, row=update.number, server="",
                    path="haadf.h5", shape=values.shape, dtype=values.dtype.str,
                    checksum=update.checksum, axes=(), ended=update.time,
                    update=stream.declared.dump(), index=update.index,
                ),
                values,
            )
            for update, values in stream.updates
        ]  # fmt: skip

    def case(rng: random.Random, folder: Path) -> None:
        frames = updates()
        records = store_until_the_power_is_cut(rng, folder, frames)
        files = store_the_rest(folder, records, frames)
        assert all(files.of(frame).holds(frame) for frame, _ in frames)
        files.close()
        assert contents(folder / "after" / "haadf.h5") == expected

    repeat(case)


def test_a_journal_keeps_all_synced_documents_and_has_no_wrong_one(
    repeat: Callable[[Case], None],
) -> None:
    def case(rng: random.Random, folder: Path) -> None:
        documents = [
            {"seq_num": n, "data": {"k": np.full(rng.choice([1, 50, 3000]), n), "s": "x" * n}}
            for n in range(rng.choice([5, 60]))
        ]
        path, after = folder / "before" / "run.msgpack", folder / "after" / "run.msgpack"
        disk, promised = Disk(path.parent, rng), 0
        journal = Journal(path)
        with suppress(PowerCut), disk.watch(rng.randrange(2, 40)):
            for number, document in enumerate(documents):
                journal.append("event", document)
                if rng.random() < 0.4:
                    journal.sync()
                    promised = number + 1
            raise PowerCut
        disk.left(folder / "after")
        journal.close()
        if not promised and not after.exists():
            return
        try:
            found = read(after)
        except DamagedJournal as exc:
            assert repair(after, exc.offset).name == "run.msgpack.damaged"
            found = read(after)
        numbers = [document["seq_num"] for _, document in found]
        assert numbers[:promised] == [*range(promised)]
        assert numbers == sorted(set(numbers))
        for number, (_, document) in zip(numbers, found, strict=True):
            np.testing.assert_equal(document, documents[number])

    repeat(case)


def test_a_frame_in_a_spool_is_there_or_known_to_be_lost(
    repeat: Callable[[Case], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def case(rng: random.Random, folder: Path) -> None:
        before, after = folder / "before", folder / "after"
        disk, spool, synced = Disk(before, rng), Spool(before), set()
        spool._syncing = True  # this test is its thread
        exposures = {
            f"run.eels/{n}": Exposure(
                np.full(rng.choice([3, 2000, 9000]), n), [{"name": "x" * n}], {"n": n}, 1.0, 2.0
            )
            for n in range(12)
        }
        with suppress(PowerCut), disk.watch(rng.randrange(0, 12)):
            for reference, exposure in exposures.items():
                spool.put(reference, exposure)
                if rng.random() < 0.4:
                    waiting = set(spool.references())
                    spool._sync_waiting()
                    synced |= waiting
            raise PowerCut
        disk.left(after)
        found = Spool(after)
        assert set(found.references()) >= synced
        for reference in found.references():
            header, exposure = found.header(reference), exposures[reference]
            assert (header["axes"], header["metadata"]) == (exposure.axes, exposure.metadata)
            pixels = found.read(reference, 0, header["nbytes"])
            is_whole = zlib.crc32(pixels) == header["checksum"]
            assert is_whole == (pixels == exposure.array.tobytes())
            assert is_whole or reference not in synced

    repeat(case)


@pytest.mark.parametrize("checkpoint", [False, True])
def test_the_ledger_keeps_all_that_was_recorded(
    checkpoint: bool, repeat: Callable[[Case], None]
) -> None:
    """SQLite syncs its log at each commit (`synchronous=FULL`); what comes later may be torn."""

    def case(rng: random.Random, folder: Path) -> None:
        before, after = folder / "before", folder / "after"
        disk, ledger = Disk(before, rng), LedgerWriter(before / "ledger.sqlite")
        stored = rng.randrange(1, 40)
        ledger.add_frames(ledger_frame(number) for number in range(60))
        for number in range(stored):
            structure = KeptStructure(path="eels.h5", run="run", structure=b"%d" % number * 9000)
            ledger.mark_stored([ledger_frame(number)], [structure])
        disk.sync_all()
        with closing(sqlite3.connect(before / "ledger.sqlite")) as other:
            if checkpoint:  # copies the log into the tables, and leaves the log as it is
                other.execute("PRAGMA wal_checkpoint(PASSIVE)")
            else:
                ledger.mark_stored([ledger_frame(stored)], [replace(structure, structure=b"new")])
            disk.left(after)
        ledger.close()
        (after / "ledger.sqlite-shm").unlink(missing_ok=True)  # memory, gone with the power
        again = LedgerWriter(after / "ledger.sqlite")
        stages = [entry.stage for entry in again.frames("run")]
        assert stages[:stored] == [ReferenceState.STORED] * stored
        is_newest = stages[stored] is ReferenceState.STORED
        assert again.structure("eels.h5") == (b"new" if is_newest else structure.structure)
        again.close()

    repeat(case)


@pytest.mark.parametrize("kind", ["manifest", "file"])
def test_a_file_that_is_written_at_once_is_the_old_one_or_the_new_one(
    kind: str, repeat: Callable[[Case], None]
) -> None:
    """Manifests, master files and everything else that `files.atomic` writes."""

    def write(folder: Path, content: Any) -> None:
        if kind == "manifest":
            manifest.write(content, folder)
        else:
            with whole_file(folder / manifest.NAME) as part:
                part.write_text(json.dumps(content))

    def case(rng: random.Random, folder: Path) -> None:
        disk, written = Disk(folder / "before", rng), []
        contents = [{"n": n, "text": "x" * rng.choice([9, 9000])} for n in range(4)]
        with suppress(PowerCut), disk.watch(rng.randrange(1, 8)):
            for content in contents:
                write(folder / "before", content)
                written.append(content)
            raise PowerCut
        disk.left(folder / "after")
        path = folder / "after" / manifest.NAME
        if written or path.exists():
            found = json.loads(path.read_text())
            assert found in contents[max(0, len(written) - 1) : len(written) + 1]

    repeat(case)
