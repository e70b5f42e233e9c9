"""Whole documents of a damaged journal are read; those that need a lost one are not."""

from pathlib import Path
from typing import Any

import pytest

from bluesky_em.files.codec import pack
from bluesky_em.files.journal_reader import DamagedJournal, JournalReader, read
from bluesky_em.files.journal_repair import has_hidden_documents, repair

RUN = [
    ("start", {"uid": "run"}),
    ("resource", {"uid": "eels", "run_start": "run"}),
    ("descriptor", {"uid": "primary", "run_start": "run"}),
    *[
        document
        for n in range(5)
        for document in (
            ("datum", {"datum_id": f"eels/{n}", "resource": "eels"}),
            ("event", {
                "uid": f"event {n}", "descriptor": "primary", "seq_num": n + 1,
                "data": {"eels": f"eels/{n}", "text": "x" * 300}, "filled": {"eels": False},
            }),
        )
    ],
    ("descriptor", {"uid": "baseline", "run_start": "run"}),
    ("event", {"uid": "other", "descriptor": "baseline", "data": {}, "filled": {}}),
    ("stop", {"uid": "stop", "run_start": "run"}),
]  # fmt: skip
RECORDS = [pack(name, document) for name, document in RUN]
PLACES = [sum(map(len, RECORDS[:n])) for n in range(len(RECORDS))]


def index_of(uid: str) -> int:
    return next(n for n, (_, d) in enumerate(RUN) if uid in (d.get("uid"), d.get("datum_id")))


def written(path: Path, uid: str, at: int = -20) -> int:
    """Write the journal with one wrong byte in a document; return where that begins."""
    number = index_of(uid)
    data = bytearray(b"".join(RECORDS))
    data[PLACES[number] + at % len(RECORDS[number])] ^= 0x01
    path.write_bytes(data)
    return PLACES[number]


def uids(path: Path) -> list[Any]:
    return [document.get("uid", document.get("datum_id")) for _, document in read(path)]


def all_but(*lost: str) -> list[Any]:
    every = [document.get("uid", document.get("datum_id")) for _, document in RUN]
    return [uid for uid in every if uid not in lost]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.msgpack"


@pytest.mark.parametrize(
    ("damaged", "lost"),
    [
        ("event 2", ["event 2"]),
        ("eels/2", ["eels/2", "event 2"]),
        ("baseline", ["baseline", "other"]),
        ("stop", ["stop"]),
        ("eels", ["eels", *(f"{e}{n}" for n in range(5) for e in ("eels/", "event "))]),
        ("run", all_but()),
    ],
)
def test_only_damaged_documents_and_those_that_need_them_are_lost(
    path: Path, damaged: str, lost: list[str]
):
    place = written(path, damaged)
    before = path.read_bytes()
    with pytest.raises(DamagedJournal) as caught:
        read(path)
    assert caught.value.offset == place
    kept = repair(path, place)
    assert uids(path) == all_but(*lost)
    assert kept.read_bytes() == before


def test_a_reader_continues_in_a_repaired_journal_and_yields_each_document_once(path: Path):
    place = written(path, "event 1")
    reader, found = JournalReader(path), []
    with pytest.raises(DamagedJournal):
        found.extend(reader)
    assert reader.offset == place
    repair(path, place)
    found.extend(reader)
    assert [document for _, document in found] == [
        document for _, document in RUN if document.get("uid") != "event 1"
    ]
    reader.close()


def test_repairing_again_after_another_damage_doubles_nothing(path: Path):
    repair(path, written(path, "event 1"))
    data = bytearray(path.read_bytes())
    data[PLACES[index_of("event 3")] + 50] ^= 0x01
    path.write_bytes(data)
    repair(path, PLACES[index_of("event 3")])
    assert uids(path) == all_but("event 1", "event 3")


def test_documents_behind_a_wrong_length_are_found_though_it_looks_like_a_torn_end(path: Path):
    number = index_of("event 1")
    data = bytearray(b"".join(RECORDS))
    length = data.index(b"\xda\x01\x2c", PLACES[number])  # of a text with 300 letters
    data[length + 1] = 0xFF
    path.write_bytes(data)
    assert len(read(path)) == number
    assert has_hidden_documents(path, PLACES[number])
    repair(path, PLACES[number])
    assert uids(path) == all_but("event 1")


def test_a_torn_end_hides_nothing(path: Path):
    data = b"".join(RECORDS)
    path.write_bytes(data[:-10])
    assert not has_hidden_documents(path, PLACES[-1])


def test_damage_at_the_end_is_cut_off(path: Path):
    path.write_bytes(b"".join(RECORDS[:4]) + b"\xc1" * 5000)
    repair(path, PLACES[4])
    assert path.read_bytes() == b"".join(RECORDS[:4])
