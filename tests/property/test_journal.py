"""The journal: every document comes back, and what is no plain data in a readable form."""

import datetime
import decimal
import itertools
import tempfile
import types
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from bluesky_em.files.codec import pack
from bluesky_em.files.journal import Journal
from bluesky_em.files.journal_reader import JournalReader, read

INTEGERS = st.integers() | st.integers(-(2**70), 2**70)
TEXT = st.text(max_size=8) | st.text(st.characters(exclude_categories=()), max_size=8)
DTYPES = st.one_of(
    npst.scalar_dtypes(), npst.unicode_string_dtypes(max_len=4), npst.byte_string_dtypes(max_len=4)
)
ARRAYS = npst.arrays(DTYPES, npst.array_shapes(min_dims=0, min_side=0, max_dims=3, max_side=3))
NUMPY_SCALARS = DTYPES.flatmap(npst.from_dtype)
LEAVES = st.one_of(
    st.none(), st.booleans(), INTEGERS, st.floats(), TEXT, st.binary(max_size=8),
    NUMPY_SCALARS, ARRAYS, st.sets(st.integers(0, 9), max_size=2), st.builds(Path, st.just("a")),
)  # fmt: skip
NO_DATA = st.sampled_from(
    [datetime.datetime(2026, 1, 1), datetime.timedelta(1), decimal.Decimal("0.1"), 1j, object(),
     uuid.UUID(int=1), print, range(3), 2**64, -(2**63) - 1, "\ud800", memoryview(b"abcd")[::2],
     np.datetime64("2026-01-01T00:00:00.000000001"), np.timedelta64(1, "ns"), np.void(b"ab"),
     np.longdouble(0.1), np.array([None]), np.zeros(1, [("a", "<i4")]),
     np.array(["a"], np.dtypes.StringDType()), np.ma.masked_array([1, 2], [False, True])]
)  # fmt: skip
KEYS = st.one_of(st.text(max_size=4), st.integers(0, 9), st.tuples(st.integers(0, 9)), st.none())
VALUES = st.recursive(
    LEAVES | NO_DATA,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(KEYS, inner, max_size=3),
        st.dictionaries(KEYS, inner, max_size=3).map(types.MappingProxyType),
    ),
    max_leaves=6,
)
DATA = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text(max_size=4) | ARRAYS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)
RECORDS = st.lists(st.tuples(st.sampled_from(["start", "event"]), DATA), max_size=4)


class NoDataError(Exception):
    """A value that a journal holds in another form."""


def kept(value: Any) -> Any:
    """Return what must come back for a value; raise NoDataError where it has another form."""
    match value:
        case np.ma.MaskedArray():
            raise NoDataError
        case np.ndarray():
            if value.dtype.kind not in "biufcmMSU":
                raise NoDataError
            return value
        case np.generic():
            plain = value.item() if value.dtype.kind in "biufSU" else None
            if type(plain) not in (bool, int, float, str, bytes):
                raise NoDataError
            return kept(plain)
        case None | bool() | float() | bytes():
            return value
        case int():
            if not -(2**63) <= value < 2**64:
                raise NoDataError
            return value
        case str():
            if any("\ud800" <= letter <= "\udfff" for letter in value):
                raise NoDataError
            return value
        case Path():
            return str(value)
        case set():
            return sorted(value)
        case list() | tuple():
            return [kept(each) for each in value]
        case Mapping():
            return {kept_key(key): kept(each) for key, each in value.items()}
    raise NoDataError


def kept_key(key: Any) -> Any:
    plain = kept(key)
    return str(plain) if isinstance(plain, list) else plain


def same(one: Any, other: Any) -> bool:
    """Check that values are equal and of one type; NaN equals NaN, 0.0 is not -0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        alike = (one.dtype, one.shape) == (other.dtype, other.shape)
        return alike and one.tobytes() == other.tobytes()
    if isinstance(one, dict):
        return same([*one.items()], [*other.items()])
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other)


@contextmanager
def fresh_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "run.msgpack"


@contextmanager
def fresh_journal() -> Iterator[Journal]:
    with fresh_path() as path, closing(Journal(path)) as journal:
        yield journal


@given(st.lists(st.dictionaries(KEYS, VALUES, max_size=3), max_size=4))
@example([{"deep": [[{"er": [None]}]]}, {1: "a", "1": "b", (1,): "c"}])
def test_every_document_comes_back_and_plain_data_unchanged(documents: list[dict[Any, Any]]):
    with fresh_journal() as journal:
        for document in documents:
            journal.append("event", document)
        there = read(journal.path)
    assert len(there) == len(documents)
    for document, (name, found) in zip(documents, there, strict=True):
        assert name == "event"
        try:
            assert same(found, kept(document))
        except NoDataError:
            assert is_plain(found)
            assert len(found) <= len(document)


def is_plain(value: Any) -> bool:
    """Check that a journal holds a value as it is."""
    if isinstance(value, dict):
        return all(is_plain(key) and is_plain(each) for key, each in value.items())
    if isinstance(value, list):
        return all(map(is_plain, value))
    return isinstance(value, (type(None), bool, int, float, str, bytes, np.ndarray))


@given(st.one_of(st.none(), st.integers(), st.binary(), TEXT), VALUES)
def test_only_a_named_mapping_is_a_document(name: Any, document: Any):
    with fresh_journal() as journal:
        try:
            journal.append(name, document)
        except TypeError:
            pass
        journal.append("stop", {})
        *accepted, last = read(journal.path)
        assert last == ["stop", {}]
        assert len(accepted) <= (isinstance(name, str) and isinstance(document, Mapping))


@given(st.integers(1, 3000), st.sampled_from([list, tuple, dict, types.MappingProxyType]))
def test_a_document_of_any_depth_comes_back(depth: int, kind: type):
    value: Any = None
    for _ in range(depth):
        value = kind([value]) if kind in (list, tuple) else kind({"deeper": value})
    with fresh_journal() as journal:
        journal.append("event", {"value": value})
        (record,) = read(journal.path)
    levels, inner = 0, record[1]["value"]
    while isinstance(inner, (dict, list)):
        levels, inner = levels + 1, inner["deeper"] if isinstance(inner, dict) else inner[0]
    assert (inner is None and levels == depth) or (isinstance(inner, str) and levels > 60)


@given(RECORDS, st.data())
def test_a_file_cut_anywhere_holds_the_whole_records_before_the_cut(
    records: list[tuple[str, Any]], data: st.DataObject
):
    packed = [pack(name, {"value": value}) for name, value in records]
    ends = list(itertools.accumulate(map(len, packed)))
    whole = b"".join(packed)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), min_size=1, max_size=4)))
    with fresh_path() as path:
        path.touch()
        reader, seen = JournalReader(path), []
        reader._block = data.draw(st.integers(1, 64))
        for cut in [*cuts, len(whole)]:
            path.write_bytes(whole[:cut])
            seen += reader
            expected = [
                [n, {"value": v}] for (n, v), end in zip(records, ends, strict=True) if end <= cut
            ]
            assert same(read(path), expected)
            assert same(seen, expected)
        reader.close()


@given(RECORDS, st.integers(0), st.binary(min_size=1, max_size=6))
def test_a_damaged_file_yields_the_records_before_the_damage_and_then_a_clear_error(
    records: list[tuple[str, Any]], place: int, damage: bytes
):
    packed = [pack(name, {"value": value}) for name, value in records]
    whole = b"".join(packed)
    place %= len(whole) + 1
    intact = sum(end <= place for end in itertools.accumulate(map(len, packed)))
    with fresh_path() as path:
        path.write_bytes(whole[:place] + damage + whole[place + len(damage) :])
        reader, seen = JournalReader(path), []
        try:
            for record in reader:
                seen.append(record)
        except ValueError as exc:
            assert str(exc).startswith(f"{path} is damaged at byte ")
            assert "What comes before it is safe" in str(exc)
        finally:
            reader.close()
        assert same(seen[:intact], [[n, {"value": v}] for n, v in records[:intact]])


class FailingDisk:
    """A file on a disk that sometimes writes only a part, or nothing."""

    def __init__(self, file: Any, takes: Iterator[int | None]):
        self._file = file
        self._takes = takes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: memoryview) -> int:
        takes = next(self._takes)
        if takes is None:
            raise OSError(5, "Input/output error")
        return self._file.write(data[: takes + 1])


@given(RECORDS, st.lists(st.none() | st.integers(0, 20), max_size=40), st.data())
def test_after_any_disk_errors_the_journal_has_all_documents_in_order(
    records: list[tuple[str, Any]], takes: list[int | None], data: st.DataObject
):
    expected = [[name, {"value": value}] for name, value in records]
    disk = itertools.chain(takes, itertools.repeat(1 << 20))
    with fresh_journal() as journal:
        for name, value in records:
            journal._file = FailingDisk(journal._file, disk)
            journal.append(name, {"value": value})
            if data.draw(st.booleans()):
                journal.catch_up()
            there = read(journal.path)
            assert same(there, expected[: len(there)])
        assert journal.catch_up()
        assert same(read(journal.path), expected)
