import pickle
from pathlib import Path

import msgpack
import numpy as np
import pytest

from bluesky_em.files.codec import pack
from bluesky_em.files.journal import Journal
from bluesky_em.files.journal_reader import JournalReader, head, read


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
