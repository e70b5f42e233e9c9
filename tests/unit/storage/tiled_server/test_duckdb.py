import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
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


DISK_FULL = """
import resource, sys
from tiled.storage import parse_storage, register_storage
from bluesky_em.storage.tiled_server._duckdb import connection_per_request

storage = parse_storage(sys.argv[1])
register_storage(storage)
with connection_per_request(sys.argv[1]):
    connection = storage.connect()
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE events AS SELECT range AS seq_num FROM range(1000)")
    connection.commit()
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, resource.RLIM_INFINITY))
    try:
        cursor.execute("FORCE CHECKPOINT")
    except connection.Error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        print("invalidated", flush=True)
    storage.connect()
    print("still running", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the file size of a process there")
def test_tables_invalidated_by_a_full_disk_end_the_process_and_the_next_one_reads_them(
    tmp_path: Path,
):
    done = subprocess.run(
        [sys.executable, "-c", DISK_FULL, uri_in(tmp_path)], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "invalidated\n"), done.stderr
    assert "exiting, to open the event tables again" in done.stderr
    storage = storage_at(uri_in(tmp_path))
    with connection_per_request(uri_in(tmp_path)), closing(storage.connect()) as connection:
        assert execute(connection, "SELECT count(*) FROM events") == [(1000,)]
