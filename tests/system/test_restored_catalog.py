"""A catalog that was deleted, or put back from an older copy, is filled again by itself."""

import shutil
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from event_model import compose_run

from bluesky_em import Data, Storage
from bluesky_em.errors import BlueskyEMError

PATIENCE = 240.0  # seconds that a Tiled server may take to start on a busy PC


def catalog_of(storage: Storage) -> Any:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return storage.data.catalog
        except BlueskyEMError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def take(storage: Storage, events: int) -> str:
    """Store a run of some events; return its uid."""
    run = compose_run()
    keys: Any = {
        "x": {"source": "s", "dtype": "number", "shape": []},
        "trace": {"source": "s", "dtype": "array", "shape": [20], "dtype_numpy": "<f8"},
        "peaks": {"source": "s", "dtype": "array", "shape": [None], "dtype_numpy": "<f8"},
    }
    stream = run.compose_descriptor(name="primary", data_keys=keys)
    storage("start", run.start_doc)
    storage("descriptor", stream.descriptor_doc)
    for n in range(events):
        data: Any = {"x": float(n), "trace": [float(n)] * 20, "peaks": [float(n)] * (n % 3)}
        storage("event", stream.compose_event(data=data, timestamps=dict.fromkeys(data, 1.0)))
    storage("stop", run.compose_stop())
    uid = run.start_doc["uid"]
    storage.data.wait(uid, timeout=PATIENCE)
    return uid


def session_of(root: Path, *events: int) -> dict[str, int]:
    """Take runs in a session of their own, until whose end its processes have ended.

    Returns the number of events by uid.
    """
    storage = Storage(root)
    catalog_of(storage)
    runs = {take(storage, each): each for each in events}
    storage.close(wait=True, timeout=PATIENCE)
    return runs


def delete(catalog: Path, _: Path) -> None:
    shutil.rmtree(catalog)


def put_back(catalog: Path, old: Path) -> None:
    shutil.rmtree(catalog)
    shutil.copytree(old, catalog)


def put_tables_back(catalog: Path, old: Path) -> None:
    shutil.copy(old / "tables.duckdb", catalog / "tables.duckdb")


@pytest.mark.timeout(900)
def test_runs_that_a_catalog_lacks_are_written_again_beside_those_of_the_day(
    tmp_path: Path,
) -> None:
    root, old = tmp_path / "storage", tmp_path / "old"
    runs = session_of(root, 3, 5)
    shutil.copytree(root / "catalog", old)
    runs |= session_of(root, 4, 6)
    for length, change in enumerate([delete, put_back, put_tables_back], start=7):
        change(root / "catalog", old)
        storage = Storage(root)
        catalog = catalog_of(storage)
        runs[take(storage, length)] = length
        deadline = time.monotonic() + PATIENCE
        while storage.status().trouble or storage.status().open_runs:
            assert time.monotonic() < deadline, storage.status()
            time.sleep(0.1)
        assert_all_in_tiled(storage, catalog, runs)
        storage.close(wait=True, timeout=PATIENCE)
        log = (root / "writer.log").read_text()
        assert log.count("Tiled has all complete runs again") == length - 6, change


def assert_all_in_tiled(storage: Storage, catalog: Any, runs: dict[str, int]) -> None:
    address = storage.tiled_address
    assert address is not None
    with closing(Data(address.uri, api_key=address.api_key)) as http:
        for uid, length in runs.items():
            storage.data.wait(uid, timeout=PATIENCE)
            assert [float(x) for x in http.stream(uid, "primary")["x"]] == [*range(length)]
            peaks = catalog[uid]["primary"].base["peaks"].read().tolist()
            assert [len(row) for row in peaks] == [n % 3 for n in range(length)]
