import contextlib
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from bluesky_em.files.journal import Journal
from bluesky_em.files.journal_reader import read


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.msgpack"


def write(path: Path, *records: tuple[str, Mapping[str, Any]]) -> None:
    journal = Journal(path)
    for name, document in records:
        journal.append(name, document)
    journal.close()


@pytest.mark.parametrize(
    "value",
    [None, True, -(2**63), 2**64 - 1, 1e-300, "Δλ 试样 🔬", "x" * (5 << 20), b"\x00\xff",
     [1, ["a", {}]], {"deep": {"er": [{"est": None}]}}, {1: "a number as key"}],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
def test_plain_data_come_back_unchanged(path: Path, value: Any):
    write(path, ("start", {"value": value}))
    assert list(read(path)) == [["start", {"value": value}]]


@pytest.mark.parametrize(
    ("value", "plain"),
    [(np.float64(0.1), 0.1), (np.float32(0.5), 0.5), (np.int64(-3), -3), (np.uint8(255), 255),
     (np.bool_(True), True), (np.str_("eels"), "eels"), ((1, 2), [1, 2]), ({7}, [7]),
     (Path("a") / "b", str(Path("a") / "b")), (MappingProxyType({"a": 1}), {"a": 1})],
    ids=repr,
)  # fmt: skip
def test_numpy_scalars_and_similar_values_come_back_as_plain_data(
    path: Path, value: Any, plain: Any
):
    write(path, ("event", {"value": value}))
    ((_, document),) = read(path)
    assert document["value"] == plain
    assert type(document["value"]) is type(plain)


@pytest.mark.parametrize(
    "array",
    [np.arange(6, dtype="<u2").reshape(2, 3), np.array([np.nan, np.inf, -0.0]), np.array(1.5),
     np.zeros((0, 4), "<f4"), np.arange(12).reshape(3, 4)[:, ::2], np.array(["ä", "b"]),
     np.array([1, 2], ">i4"), np.array([1 + 2j])],
    ids=lambda array: f"{array.dtype.str}{array.shape}",
)  # fmt: skip
def test_arrays_come_back_with_shape_dtype_and_values(path: Path, array: np.ndarray):
    write(path, ("event", {"data": {"array": array}}))
    ((_, document),) = read(path)
    back = document["data"]["array"]
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(back, array)
    assert back.flags.writeable


def test_nan_stays_nan(path: Path):
    write(path, ("event", {"value": float("nan")}))
    ((_, document),) = read(path)
    assert np.isnan(document["value"])


def test_a_record_can_be_read_as_soon_as_it_is_appended(path: Path):
    journal = Journal(path)
    journal.append("start", {"uid": "a"})
    assert read(path) == [["start", {"uid": "a"}]]
    journal.close()


def test_another_run_cannot_append_to_an_existing_journal(path: Path):
    write(path, ("start", {}))
    with pytest.raises(FileExistsError, match="has begun already.*subscribed twice.*another uid"):
        Journal(path)
    assert [name for name, _ in read(path)] == ["start"]


class Colour(Enum):
    RED = "red"


@dataclass
class Sample:
    name: str


ITSELF: list[Any] = [1]
ITSELF.append(ITSELF)


@pytest.mark.parametrize(
    ("value", "kept", "form"),
    [
        (datetime(2026, 1, 1, 12), "2026-01-01T12:00:00", "datetime: ISO text"),
        (date(2026, 1, 1), "2026-01-01", "date: ISO text"),
        (timedelta(days=1), 86400.0, "timedelta: seconds"),
        (np.datetime64("2026-01-01"), "2026-01-01", "datetime64: ISO text"),
        (UUID(int=5), "00000000-0000-0000-0000-000000000005", "UUID: text"),
        (Decimal("1.50"), "1.50", "Decimal: text"),
        (Colour.RED, "red", "Colour: its value"),
        (2**70, "1180591620717411303424", "int: text, since it has more than 64 bits"),
        (1 + 2j, [1.0, 2.0], "complex: [real, imaginary]"),
        (np.longdouble(1.5), 1.5, "longdouble: a float"),
        (np.longdouble("0.1"), str(np.longdouble("0.1")), "longdouble: text"),
        ({3, 1, 2}, [1, 2, 3], "set: a list"),
        (deque([1, 2]), [1, 2], "deque: a list"),
        (range(3), [0, 1, 2], "range: a list"),
        ({"a": 1}.keys(), ["a"], "dict_keys: a list"),
        (np.array([1, None]), [1, None], "ndarray: a list"),
        (np.ma.masked_array([1.0, 2.0], [False, True]), [1.0, None], "MaskedArray: a list, with"),
        (np.ma.masked, None, "MaskedConstant: None"),
        (Sample("Si"), {"name": "Si"}, "Sample: a mapping of its fields"),
        (np.zeros((), [("x", "<i4")])[()], {"x": 0}, "void: a mapping of its fields"),
        (Path("a"), "a", "text"),
        (print, "<built-in function print>", "builtin_function_or_method: text"),
        (..., "Ellipsis", "ellipsis: text"),
        (slice(1, 2), "slice(1, 2, None)", "slice: text"),
        ("\ud800", "\\ud800", ""),
        (ITSELF, [1, "[1, [1, [1, [1, [1, [1, [...]]]]]]]"], "list: text, since it is too deep"),
        ({date(2026, 1, 1): 1, frozenset([1]): 2}, {"2026-01-01": 1, "[1]": 2}, "date: ISO text"),
    ],
)
def test_a_value_that_is_no_plain_data_is_kept_in_a_readable_form_and_noted(
    path: Path, value: Any, kept: Any, form: str
):
    noted: list[str] = []
    journal = Journal(path, note=lambda kind, words: noted.append(f"{kind.__name__}: {words}"))
    journal.append("event", {"value": value})
    journal.append("stop", {})
    journal.close()
    assert read(path) == [["event", {"value": kept}], ["stop", {}]]
    assert form in "\n".join(noted)


def test_syncing_and_closing_twice_is_harmless(path: Path):
    journal = Journal(path)
    journal.append("start", {})
    journal.sync()
    journal.sync()
    journal.close()
    journal.close()
    journal.sync()
    assert len(read(path)) == 1


def test_a_closed_journal_accepts_no_more_documents(path: Path):
    journal = Journal(path)
    journal.close()
    with pytest.raises(ValueError, match="closed file"):
        journal.append("event", {})


@contextlib.contextmanager
def full_disk(size: int = 1000) -> Iterator[None]:
    """Limit every file of this process to `size` bytes."""
    resource = pytest.importorskip("resource", reason="Windows has no file size limit")
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def test_documents_that_the_disk_refuses_wait_in_memory_and_are_written_later_in_order(path: Path):
    journal = Journal(path)
    journal.append("start", {"pad": "x" * 600})
    with full_disk():
        for number in range(3):
            journal.append("event", {"seq_num": number, "pad": "x" * 600})
        assert len(journal.unwritten) == 3 and journal.trouble == "File too large"
        assert not journal.catch_up()
    assert [name for name, _ in read(path)] == ["start"]
    assert journal.catch_up() and not journal.trouble
    journal.append("stop", {})
    journal.close()
    assert [d.get("seq_num") for _, d in read(path)] == [None, 0, 1, 2, None]


def test_the_documents_that_wait_in_memory_are_limited(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bluesky_em.files.journal.UNWRITTEN_LIMIT", 1000)
    journal = Journal(path)
    with full_disk(100):
        for _ in range(2):
            journal.append("event", {"pad": "x" * 600})
        with pytest.raises(OSError, match=r"File too large.*2 documents wait .* free its disk"):
            journal.append("event", {"pad": "x" * 600})
    journal.close()
    assert len(read(path)) == 2


def test_a_journal_is_not_closed_while_the_disk_has_no_room_for_the_rest(path: Path):
    journal = Journal(path)
    with full_disk(100):
        journal.append("start", {"pad": "x" * 600})
        with pytest.raises(OSError, match="1 documents wait for"):
            journal.close()
    journal.close()
    assert len(read(path)) == 1


def test_a_journal_that_another_thread_closes_has_no_lock_any_more(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run.msgpack")
    thread = threading.Thread(target=journal.close)
    thread.start()
    thread.join()
    assert not journal._lock.is_locked
