import gc
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import msgpack
import numpy as np
import psutil
import pytest

from bluesky_em.files.codec import pack
from bluesky_em.files.idle_files import IdleFiles
from bluesky_em.files.journal import Journal
from bluesky_em.files.journal_reader import OPEN_LIMIT, JournalReader, head, read


class CountedFiles(IdleFiles):
    """Keeps no file open, and counts how often one was opened."""

    def __init__(self):
        super().__init__(limit=0)
        self.opened = 0

    def keep(self, reader: object, file: BinaryIO) -> None:
        self.opened += 1
        super().keep(reader, file)


def open_in(folder: Path) -> list[str]:
    """Return the files in a folder that this process has open."""
    return [
        file.path for file in psutil.Process().open_files() if folder in Path(file.path).parents
    ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.msgpack"


def test_a_torn_record_at_the_end_is_read_once_it_is_complete(path: Path):
    whole, torn = pack("start", {"uid": "a"}), pack("event", {"value": np.arange(100.0)})
    reader = JournalReader(path)
    for cut in (1, len(torn) // 2, len(torn) - 1):
        path.write_bytes(whole + torn[:cut])
        assert [name for name, _ in read(path)] == ["start"]
    assert [name for name, _ in reader] == ["start"]
    assert not list(reader)
    with path.open("ab") as file:
        file.write(torn[-1:])
    ((name, document),) = reader
    assert (name, document["value"].tolist()) == ("event", list(range(100)))
    reader.close()


def test_a_reader_yields_each_record_once_while_the_journal_grows(path: Path):
    journal, reader = Journal(path), JournalReader(path)
    seen: list[int] = []
    for number in range(20):
        journal.append("event", {"seq_num": number})
        if number % 3 == 0:
            seen += [document["seq_num"] for _, document in reader]
    seen += [document["seq_num"] for _, document in reader]
    assert seen == list(range(20))
    assert not list(reader)
    journal.close()
    reader.close()


def test_nothing_in_a_journal_executes_when_it_is_read(path: Path):
    fields = msgpack.packb(["|O", [1], pickle.dumps(print)])
    path.write_bytes(msgpack.packb(["event", {"value": msgpack.ExtType(1, fields)}]))
    with pytest.raises(ValueError, match="OBJECT array"):
        read(path)


def test_an_unknown_extension_is_named(path: Path):
    path.write_bytes(msgpack.packb(["event", {"value": msgpack.ExtType(42, b"")}]))
    with pytest.raises(ValueError, match="unknown msgpack extension 42 in a journal"):
        read(path)


def test_closing_a_reader_that_never_read_is_harmless(path: Path):
    reader = JournalReader(path)
    reader.close()
    reader.close()


def test_a_damaged_journal_is_named_with_the_position_of_the_damage(path: Path):
    whole = pack("start", {"uid": "a"})
    path.write_bytes(whole + msgpack.packb([1, 2, 3]))
    with pytest.raises(ValueError, match=rf"damaged at byte {len(whole)}: '\[1, 2, 3\]' is not a"):
        read(path)


def test_the_head_of_a_journal_needs_no_more_than_its_first_block(path: Path):
    large = pack("event", {"value": np.zeros(1 << 16)})
    path.write_bytes(pack("start", {"uid": "a"}) + large + b"\xc1 damaged")
    name, document = next(head(path))
    assert (name, document) == ("start", {"uid": "a"})


def test_of_hundreds_of_journals_that_grow_in_turn_only_a_few_are_open(tmp_path: Path):
    paths = [tmp_path / f"{number}.msgpack" for number in range(300)]
    readers = [JournalReader(path) for path in paths]
    seen: list[list[int]] = [[] for _ in paths]
    for turn in range(3):
        for path, reader, found in zip(paths, readers, seen, strict=True):
            with path.open("ab") as file:
                file.write(pack("event", {"seq_num": turn}))
            found += [document["seq_num"] for _, document in reader]
        assert len(open_in(tmp_path)) <= OPEN_LIMIT
    assert seen == [[0, 1, 2]] * 300
    for reader in readers:
        reader.close()
    assert not open_in(tmp_path)


def test_a_journal_that_has_not_grown_is_not_opened_again(path: Path):
    idle = CountedFiles()
    reader = JournalReader(path, idle=idle)
    path.write_bytes(pack("start", {"uid": "a"}))
    assert len(list(reader)) == 1
    assert not list(reader)
    assert idle.opened == 1
    with path.open("ab") as file:
        file.write(pack("stop", {"uid": "b"}))
    assert [name for name, _ in reader] == ["stop"]
    assert idle.opened == 2


@pytest.mark.parametrize("other", [b"", pack("start", {"uid": "b", "more": "b" * 100})])
def test_another_file_in_the_place_of_a_journal_is_not_read_on(path: Path, other: bytes):
    path.write_bytes(pack("start", {"uid": "a"}))
    reader = JournalReader(path, idle=IdleFiles(limit=0))
    assert len(list(reader)) == 1
    path.write_bytes(other)
    with pytest.raises(ValueError, match=r"run\.msgpack is no longer the file of which"):
        list(reader)


def test_a_copy_of_a_journal_in_its_place_is_read_on(path: Path):
    whole = [pack("event", {"seq_num": number}) for number in range(50)]
    path.write_bytes(b"".join(whole[:49]) + whole[49][:3])
    reader = JournalReader(path, idle=IdleFiles(limit=0))
    assert len(list(reader)) == 49
    path.unlink()
    path.write_bytes(b"".join(whole))
    assert [document["seq_num"] for _, document in reader] == [49]


def test_a_closed_reader_reads_no_more(path: Path):
    path.write_bytes(pack("start", {"uid": "a"}) * 2)
    reader = JournalReader(path)
    records = iter(reader)
    next(records)
    reader.close()
    assert not open_in(path.parent)
    with pytest.raises(ValueError, match=r"the reader of .*run\.msgpack is closed"):
        list(reader)


def test_a_reader_that_is_forgotten_keeps_no_file_open(path: Path):
    path.write_bytes(pack("start", {"uid": "a"}))
    with pytest.warns(ResourceWarning, match=r"unclosed file .*run\.msgpack"):
        assert len(list(JournalReader(path))) == 1
        gc.collect()
    assert not open_in(path.parent)


def test_several_threads_share_the_files_that_may_be_open(tmp_path: Path):
    idle = IdleFiles(limit=2)
    paths = [tmp_path / f"{number}.msgpack" for number in range(8)]

    def read_growing(path: Path) -> list[int]:
        reader, seen = JournalReader(path, idle=idle), []
        for number in range(100):
            with path.open("ab") as file:
                file.write(pack("event", {"seq_num": number}))
            seen += [document["seq_num"] for _, document in reader]
        reader.close()
        return seen

    with ThreadPoolExecutor(len(paths)) as threads:
        assert list(threads.map(read_growing, paths)) == [list(range(100))] * len(paths)
    assert not open_in(tmp_path)
