"""The rows of a table come once each, in order, whatever messages were received."""

from typing import Any

import pyarrow

from bluesky_em.data.follow._tiled_nodes import SideTable, Table

Row = tuple[int, float, float]
"""seq_num, time, x"""


def arrow(rows: list[Row]) -> bytes:
    table = pyarrow.table(dict(zip(("seq_num", "time", "x"), zip(*rows, strict=True), strict=True)))
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


class Server:
    """A table in Tiled: client, its context, HTTP client and response in one."""

    columns = ("seq_num", "time", "x")
    item = {"links": {"full": "link"}}
    is_error = False

    def __init__(self, *rows: Row):
        self.rows = list(rows)
        self.reads = 0
        self.context = self.http_client = self

    def get(self, link: str, **_: Any) -> Any:
        self.reads += 1
        return self

    def read(self) -> bytes:
        return arrow(self.rows)


def announced(*rows: Row) -> dict[str, Any]:
    return {"type": "table-data", "payload": arrow(list(rows))}


def values(table: Table) -> list[float]:
    return [table.row(index)["x"] for index in range(table.count)]


def test_rows_are_taken_from_messages_and_the_table_is_read_once() -> None:
    server = Server((1, 1.0, 10.0))
    table = Table(server)
    table.update(None)
    table.update(announced((2, 2.0, 20.0), (3, 3.0, 30.0)))
    assert values(table) == [10.0, 20.0, 30.0] and server.reads == 1


def test_a_row_that_is_announced_before_it_is_stored_comes_once() -> None:
    server = Server((1, 1.0, 10.0))
    table = Table(server)
    table.update(announced((1, 1.0, 10.0)))
    table.update(None)
    table.update(announced((1, 1.0, 10.0)))
    assert values(table) == [10.0]


def test_a_missing_number_makes_it_read_the_table() -> None:
    server = Server((1, 1.0, 10.0), (2, 2.0, 20.0))
    table = Table(server)
    table.update(announced((1, 1.0, 10.0)))
    table.update(announced((3, 3.0, 30.0)))
    assert values(table) == [10.0, 20.0, 30.0]


def test_a_number_that_comes_again_after_a_pause_is_another_row() -> None:
    table = Table(Server())
    table.update(announced((1, 1.0, 10.0), (2, 2.0, 20.0), (2, 2.5, 25.0), (3, 3.0, 30.0)))
    assert values(table) == [10.0, 20.0, 25.0, 30.0]


def test_a_missed_row_with_a_repeated_number_is_inserted_at_the_next_read() -> None:
    rows: list[Row] = [(1, 1.0, 10.0), (2, 2.0, 20.0), (2, 2.5, 25.0), (3, 3.0, 30.0)]
    table = Table(Server(*rows))
    table.update(announced(*rows[:2]))
    table.update(announced(rows[3]))
    assert table.row(0)["x"] == 10.0  # returned already
    table.update(None)
    assert values(table) == [10.0, 20.0, 25.0, 30.0]


def test_a_table_without_numbers_is_read_until_it_has_the_rows_that_were_announced() -> None:
    server = Server((1, 1.0, 10.0))
    table = SideTable(server)
    assert table.count == 1 and server.reads == 1
    table.update(announced((2, 2.0, 20.0)))
    assert table.count == 1  # not stored yet
    server.rows.append((2, 2.0, 20.0))
    assert [table.row(index)["x"] for index in range(table.count)] == [10.0, 20.0]
    reads = server.reads
    assert table.count == 2 and server.reads == reads
