from contextlib import closing
from pathlib import Path
from typing import Any

from tiled.storage import SQLStorage, parse_storage, register_storage

from bluesky_em.storage.tiled_server._duckdb import connection_per_request


def uri_in(folder: Path) -> str:
    return f"duckdb:///{(folder / 'event tables.duckdb').as_posix()}"


def storage_at(uri: str) -> SQLStorage:
    """Create the storage that a Tiled server creates from its configuration."""
    storage = parse_storage(uri)
    assert isinstance(storage, SQLStorage)
    register_storage(storage)
    return storage


def execute(connection: Any, query: str) -> list[tuple[int]]:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall()


def test_a_reader_that_rolls_back_does_not_undo_what_another_request_appends(tmp_path: Path):
    storage = storage_at(uri_in(tmp_path))
    with connection_per_request(uri_in(tmp_path)):
        with closing(storage.connect()) as writer, closing(storage.connect()) as reader:
            execute(writer, "CREATE TABLE events (seq_num INTEGER)")
            writer.commit()
            execute(writer, "INSERT INTO events VALUES (1)")
            assert execute(reader, "SELECT * FROM events") == []
            reader.rollback()
            writer.commit()
        with closing(storage.connect()) as reader:
            assert execute(reader, "SELECT * FROM events") == [(1,)]
