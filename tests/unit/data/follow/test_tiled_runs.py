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


@pytest.mark.parametrize("name, version", [
    ("BlueskyRun", "3.0"), ("BlueskyRun", None), ("BlueskyEventStream", "3.0"),
    ("CatalogOfBlueskyRuns", "3.0"),
])  # fmt: skip
def test_the_container_of_results_is_a_plain_one_whatever_its_specs_say(
    catalog: Any, name: str, version: str | None
) -> None:
    from tiled.client.container import Container
    from tiled.structures.core import Spec

    find_or_create(catalog).replace_metadata(specs=[Spec(name, version=version)])
    try:
        container = find_or_create(catalog)
        assert type(container) is Container and RUNS[3] in list(container)
        assert type(container[RUNS[3]]).__name__ == "BlueskyRunV3"
    finally:
        container.replace_metadata(specs=[])


def test_the_container_of_results_is_no_run_though_its_metadata_say_so(catalog: Any) -> None:
    from tiled.structures.core import Spec

    start = {"uid": "results", "time": 1.9e9}
    specs = [Spec("BlueskyRun", version="3.0")]
    find_or_create(catalog).replace_metadata({"start": start}, specs=specs)
    try:
        source = TiledSource(lambda: catalog)
        with closing(source.follow_runs(last=9, since=None, at="")) as runs:
            assert runs.collect(0.0) == RUNS[:3]
    finally:
        find_or_create(catalog).replace_metadata({}, specs=[])


def test_a_run_of_results_does_not_answer_for_the_frames_of_a_raw_run(catalog: Any) -> None:
    find_or_create(catalog)[RUNS[3]].update_metadata({"stop": {"exit_status": "success"}})
    (status,) = TiledSource(lambda: catalog).statuses([f"{RUNS[3]}.eels/0"])
    assert status.stage is None  # the raw run of that uid may come
