"""A catalog that was deleted, or put back from an older copy, is filled again by itself."""

import shutil
import time
from collections.abc import Callable
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


def session_of(root: Path, *events: int) -> list[str]:
    """Take runs in a session of their own, until whose end its processes have ended."""
    storage = Storage(root)
    catalog_of(storage)
    uids = [take(storage, each) for each in events]
    storage.close(wait=True, timeout=PATIENCE)
    return uids


def delete(catalog: Path, _: Path) -> None:
    shutil.rmtree(catalog)


def put_back(catalog: Path, old: Path) -> None:
    shutil.rmtree(catalog)
    shutil.copytree(old, catalog)


def put_tables_back(catalog: Path, old: Path) -> None:
    shutil.copy(old / "tables.duckdb", catalog / "tables.duckdb")


def values(data: Data, uid: str) -> list[float]:
    return [float(x) for x in data.stream(uid, "primary")["x"]]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("change", [delete, put_back, put_tables_back])
def test_runs_that_a_catalog_lacks_are_written_again_beside_those_of_the_day(
    tmp_path: Path, change: Callable[[Path, Path], None]
) -> None:
    root, old = tmp_path / "storage", tmp_path / "old"
    lengths = [3, 5, 4, 6]
    uids = session_of(root, *lengths[:2])
    shutil.copytree(root / "catalog", old)
    uids += session_of(root, *lengths[2:])
    change(root / "catalog", old)

    storage = Storage(root)
    catalog = catalog_of(storage)
    new = take(storage, 7)
    assert storage.tiled_address is not None
    http = Data(storage.tiled_address.uri, api_key=storage.tiled_address.api_key)
    deadline = time.monotonic() + PATIENCE
    while storage.status().trouble or storage.status().open_runs:
        assert time.monotonic() < deadline, storage.status()
        storage.data.wait(new)
        time.sleep(0)
    for uid, length in zip([*uids, new], [*lengths, 7], strict=True):
        storage.data.wait(uid, timeout=PATIENCE)
        assert values(http, uid) == [*range(length)]
        assert [len(row) for row in catalog[uid]["primary"].base["peaks"].read().tolist()] == [
            n % 3 for n in range(length)
        ]
    http.close()
    storage.close(wait=True, timeout=PATIENCE)
    log = (root / "writer.log").read_text()
    assert "Tiled has all complete runs again" in log
