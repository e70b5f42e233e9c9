"""Rows of a run in Tiled that are not those it was given are found, and put right."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import awkward
import numpy as np
import pyarrow
import pytest
import ragged

from bluesky_em.files.layout import Layout
from bluesky_em.files.tiled import table_rows
from bluesky_em.files.tiled.nodes import IdempotentNode
from bluesky_em.files.tiled.renewal import RowsDiffer
from bluesky_em.storage.catalog._event_table import EventTable
from tests.support.tiled_app import catalog_of

pytestmark = pytest.mark.filterwarnings("ignore:Using `httpx`")  # a warning of starlette's client

SCHEMA = pyarrow.schema(
    [
        ("seq_num", pyarrow.int64()), ("time", pyarrow.float64()), ("x", pyarrow.float64()),
        ("N", pyarrow.int64()), ("word", pyarrow.string()), ("few", pyarrow.list_(pyarrow.int16())),
    ]
)  # fmt: skip
VALUES = {
    "seq_num": [1, 2, 3, 4, 4, 5], "time": [1.0, 2.0, 3.0, 4.0, 4.5, 5.0],
    "x": [0.5, float("nan"), None, -1.0, 2.0, 3.0], "N": [1, None, 2**40, 3, 4, 5],
    "word": ["a", None, "", "d", "d", "e"], "few": [[1, 2], None, [], [4], [4], [5]],
}  # fmt: skip
ROWS = pyarrow.table(VALUES, schema=SCHEMA)
LATER = ROWS.select(["x", "word"])
"""the rows of a table that has no sequence numbers"""


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdempotentNode]:
    folder: Path = tmp_path_factory.mktemp("storage")
    with catalog_of(Layout(folder)) as catalog:
        yield IdempotentNode(catalog).create_container("a-stream")


def write(stream: IdempotentNode, key: str, rows: pyarrow.Table) -> Any:
    """Write a run's rows, in three parts, until they are in Tiled; return the table."""
    for _ in range(3):
        stream.found.clear()
        table = stream.create_appendable_table(rows.schema, key)
        with suppress(RowsDiffer):
            events = EventTable(table, is_new=key not in stream.found)
            for start in range(0, len(rows), 2):
                events.append(rows.slice(start, 2))
            events.check()
            return table
    raise AssertionError(f"{key} is not right after three attempts")


def assert_has(table: Any, rows: pyarrow.Table) -> None:
    found = table_rows.read(table)
    assert found.num_rows == rows.num_rows and [*table_rows.differing(found, rows)] == []


WRONG: dict[str, Callable[[pyarrow.Table], pyarrow.Table]] = {
    "none": lambda rows: rows.slice(0, 0),
    "the first": lambda rows: rows.slice(0, 3),
    "not the middle": lambda rows: pyarrow.concat_tables([rows.slice(0, 2), rows.slice(4)]),
    "the last twice": lambda rows: pyarrow.concat_tables([rows, rows.slice(5)]),
    "all twice": lambda rows: pyarrow.concat_tables([rows, rows]),
    "others after the middle": lambda rows: pyarrow.concat_tables(
        [rows.slice(0, 2), rows.slice(4), rows.slice(4)]
    ),
    "another order": lambda rows: rows.take([0, 2, 1, 3, 4, 5]),
    "another value": lambda rows: rows.set_column(
        rows.column_names.index("x"), rows.field("x"), pyarrow.array([0.5, 7.0, None, -1, 2, 3])
    ),
}


@pytest.mark.parametrize("rows", [ROWS, LATER], ids=["with numbers", "without numbers"])
@pytest.mark.parametrize("wrong", WRONG)
def test_whatever_rows_an_earlier_attempt_left_each_is_there_once_in_order(
    stream: IdempotentNode, wrong: str, rows: pyarrow.Table
):
    key = f"{wrong.replace(' ', '_')}_{len(rows.column_names)}"
    left = WRONG[wrong](rows)
    stream.create_appendable_table(rows.schema, key).append_partition(0, left)
    table = write(stream, key, rows)
    assert_has(table, rows)
    assert_has(write(stream, key, rows), rows)


def test_an_acknowledged_append_that_is_lost_is_found_at_the_end_with_its_numbers(
    stream: IdempotentNode, monkeypatch: pytest.MonkeyPatch
):
    table = stream.create_appendable_table(SCHEMA, "lost")
    events = EventTable(table, is_new=True)
    events.append(ROWS.slice(0, 2))
    with monkeypatch.context() as patched:
        patched.setattr(type(table), "append_partition", lambda *_: None)
        events.append(ROWS.slice(2, 1))
    events.append(ROWS.slice(3))
    with pytest.raises(
        RowsDiffer, match=r"Tiled lacks 1, with the numbers \[3\]; .* written again"
    ):
        events.check()
    assert_has(write(stream, "lost", ROWS), ROWS)


def ragged_rows(*lengths: int) -> Any:
    content = awkward.from_numpy(np.arange(float(sum(lengths))), regulararray=True)
    return ragged.array(awkward.unflatten(content, lengths))


@pytest.mark.parametrize("left", [(1, 2), (2, 1), (2, 0, 3, 1)])
def test_ragged_rows_of_an_earlier_attempt_are_written_again(
    stream: IdempotentNode, left: tuple[int, ...]
):
    key, rows = f"ragged_{len(left)}_{left[0]}", ragged_rows(2, 0, 3)
    stream.write_ragged(ragged_rows(*left), key=key)
    array = stream.write_ragged(rows[:1], key=key)
    array.patch(rows[1:], offset=array.shape[0], extend=True)
    array.check()
    assert stream._node[key].read().tolist() == rows.tolist()


def test_ragged_rows_that_tiled_lost_are_noticed_and_written_again(
    stream: IdempotentNode, monkeypatch: pytest.MonkeyPatch
):
    rows = ragged_rows(2, 0, 3, 1)
    array = stream.write_ragged(rows[:2], key="lost_ragged")
    with monkeypatch.context() as patched:
        patched.setattr(array._node, "patch", lambda *_, **__: None)
        array.patch(rows[2:], offset=2, extend=True)
    with pytest.raises(RowsDiffer, match="other rows than it acknowledged; .* written again"):
        array.check()
    stream.write_ragged(rows, key="lost_ragged").check()


def test_rows_of_an_array_beyond_those_of_the_run_are_hidden(stream: IdempotentNode):
    rows = np.arange(60.0).reshape(3, 20)
    stream.write_array(np.ones((5, 20)), key="array")
    array = stream.write_array(rows, key="array")
    array.check()
    assert (stream._node["array"].read() == rows).all()
