"""The runs in a catalog that also has the container of results, wherever that is among them."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from bluesky_em.data._tiled_source import TiledSource
from bluesky_em.files.layout import Layout
from bluesky_em.files.tiled.results_container import find_or_create, find_run
from tests.support.tiled_app import catalog_of

pytestmark = pytest.mark.filterwarnings("ignore:Using .httpx. with .starlette.testclient")

RUNS = [f"0000000{n}-1111-4222-8333-444455556666" for n in range(4)]


def begin(parent: Any, uid: str, time: float) -> None:
    from tiled.structures.core import Spec

    metadata = {"start": {"uid": uid, "time": time}}
    parent.create_container(uid, metadata=metadata, specs=[Spec("BlueskyRun", version="3.0")])


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with catalog_of(Layout(tmp_path_factory.mktemp("storage"))) as catalog:
        for n, uid in enumerate(RUNS[:2]):
            begin(catalog, uid, float(n))
        begin(find_or_create(catalog), RUNS[3], 9.0)  # as in a catalog of an earlier version
        begin(catalog, RUNS[2], 2.0)
        yield catalog


@pytest.mark.parametrize("where, expected", [
    ({"last": 0}, []), ({"last": 1}, RUNS[2:3]), ({"last": 2}, RUNS[1:3]), ({"last": 9}, RUNS[:3]),
    ({"since": 0.0}, RUNS[:3]), ({"since": 1.0}, RUNS[1:3]), ({"since": 2.0}, RUNS[2:3]),
    ({"since": 3.0}, []), ({"at": RUNS[1]}, RUNS[1:3]),
])  # fmt: skip
def test_runs_are_counted_without_the_container_of_results(
    catalog: Any, where: dict[str, Any], expected: list[str]
) -> None:
    source = TiledSource(lambda: catalog)
    with closing(source.follow_runs(**{"last": 0, "since": None, "at": ""} | where)) as runs:  # type: ignore
        assert runs.collect(0.0) == expected


def test_a_run_of_results_is_found_by_its_uid_and_a_published_result_is_no_run(
    catalog: Any,
) -> None:
    assert find_run(catalog, RUNS[3]).metadata["start"]["uid"] == RUNS[3]
    find_or_create(catalog).create_container("f" * 36)
    with pytest.raises(KeyError):
        find_run(catalog, "f" * 36)
