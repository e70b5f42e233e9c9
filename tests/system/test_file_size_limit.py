"""A disk that is full for one process: it may write no larger files."""

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tiled.storage import SQLStorage, parse_storage, register_storage

from bluesky_em.acquisition.instrument_pc.spool import Spool
from bluesky_em.storage.tiled_server._duckdb import connection_per_request

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has no limit on the file size of a process"
)
SPOOL = """
import resource, signal, sys
import numpy as np
from bluesky_em.acquisition.instrument_pc.exposure import Exposure
from bluesky_em.acquisition.instrument_pc.spool import Spool
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    Spool(sys.argv[1]).put("run.eels/0", Exposure(np.zeros(1000), [], {}, 1.0, 2.0))
except OSError:
    sys.exit(3)
"""


def test_a_frame_that_does_not_fit_on_the_disk_is_an_error(tmp_path: Path):
    spool = Spool(tmp_path / "spool")
    done = subprocess.run([sys.executable, "-c", SPOOL, spool.folder])
    assert done.returncode == 3
    assert Spool(spool.folder).references() == []


def uri_in(folder: Path) -> str:
    return f"duckdb:///{(folder / 'event tables.duckdb').as_posix()}"


EVENT_TABLES = """
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


def test_tables_invalidated_by_a_full_disk_end_the_process_and_the_next_one_reads_them(
    tmp_path: Path,
):
    done = subprocess.run(
        [sys.executable, "-c", EVENT_TABLES, uri_in(tmp_path)], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "invalidated\n"), done.stderr
    assert "exiting, to open the event tables again" in done.stderr
    storage = parse_storage(uri_in(tmp_path))
    assert isinstance(storage, SQLStorage)
    register_storage(storage)
    with (
        connection_per_request(uri_in(tmp_path)),
        closing(storage.connect()) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT count(*) FROM events")
        assert cursor.fetchall() == [(1000,)]
