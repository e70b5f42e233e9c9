"""The embedded server's keys against each route that changes something: raw runs stay as they are.

The routes are those of the installed Tiled; a version with another one fails the first test.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow
import pytest
import ragged
from tiled.client import from_context

from bluesky_em.files.layout import Layout
from bluesky_em.files.tiled.results_container import find, find_or_create
from bluesky_em.storage.tiled_server._access import ANALYST, READER, WRITER
from tests.support.tiled_app import server_of

pytestmark = pytest.mark.filterwarnings("ignore:Using .httpx. with .starlette.testclient")

RUN = "7d2a4f0e-3f6c-4a53-9d35-0f8d8c1c2b3a"
SCHEMA = pyarrow.schema([("seq_num", pyarrow.int64()), ("value", pyarrow.float64())])
ROWS = pyarrow.table({"seq_num": [1], "value": [0.5]}, schema=SCHEMA)
CONTAINER = {"structure_family": "container", "metadata": {}, "data_sources": [], "specs": []}
MERGE = {
    "content-type": "application/merge-patch+json", "specs": None, "access_tags": None,
    "metadata": {"stop": {"reason": "forged"}},
}  # fmt: skip
REFUSED = {401, 403}
"""HTTP statuses: the key never has the scope, or not on this node"""
ARROW = "application/vnd.apache.arrow.file"
BYTES = {"content": np.ones(2).tobytes(), "headers": {"Content-Type": "application/octet-stream"}}
SOURCE = {"structure_family": "array", "structure": None, "management": "external"}
BEYOND = {200, 400, 415, 422, 500}
"""for a body that Tiled may refuse, or fail to read, after it has checked access"""
KEYS = {"w": WRITER, "a": ANALYST, "r": READER}


def arrow() -> dict[str, Any]:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_file(sink, SCHEMA) as file:
        file.write_table(ROWS)
    return {"content": sink.getvalue().to_pybytes(), "headers": {"Content-Type": ARROW}}


@dataclass(frozen=True)
class Change:
    """A request that changes something, and the node below a run to which it is sent."""

    method: str
    route: str
    node: str = ""
    query: str = ""
    body: dict[str, Any] = field(default_factory=dict)
    to_results: Container[int] = (200,)
    """statuses for an analyst's key below `results`"""

    def __str__(self) -> str:
        return f"{self.method} {self.route}"


CHANGES = [
    Change("POST", "metadata", "", "", {"json": CONTAINER}),
    Change("POST", "metadata", "s", "", {"json": CONTAINER}),
    Change("PUT", "metadata", "", "", {"json": {"metadata": {}, "specs": []}}),
    Change("PATCH", "metadata", "", "", {"json": MERGE}),
    Change("PATCH", "metadata", "s/table", "", {"json": MERGE}),
    Change("DELETE", "metadata", "", "?recursive=true&external_only=false", {}, REFUSED),
    Change("DELETE", "revisions", "", "?number=1", {}, REFUSED),
    Change("DELETE", "asset", "s/array", "?id=1&external_only=false", {}, REFUSED),
    Change("DELETE", "stream/close", "s/array"),
    Change("POST", "register", "s", "", {"json": CONTAINER}, REFUSED),
    Change("PUT", "data_source", "s/array", "", {"json": {"data_source": SOURCE}}, REFUSED),
    Change("PUT", "array/full", "s/array", "", BYTES),
    Change("PUT", "array/block", "s/array", "?block=0", BYTES),
    Change("PATCH", "array/full", "s/array", "?offset=2&shape=2&extend=true", BYTES),
    Change("PUT", "table/full", "s/whole", "", arrow()),
    Change("PUT", "node/full", "s/whole", "", arrow()),
    Change("PUT", "table/partition", "s/whole", "?partition=0", arrow()),
    Change("PATCH", "table/partition", "s/table", "?partition=0", arrow()),
    Change("PUT", "ragged/full", "s/ragged", "", BYTES, BEYOND),
    Change("PUT", "ragged/block", "s/ragged", "?block=0", BYTES, BEYOND),
    Change("PATCH", "ragged/full", "s/ragged", "?offset=2&shape=2&extend=true", BYTES, BEYOND),
    Change("PUT", "awkward/full", "s/array", "", BYTES, {404}),
    Change("POST", "webhooks/target", "", "", {"json": {"url": "http://x"}}, REFUSED),
]
READING = {
    "POST table/partition", "POST table/full", "POST container/full", "POST awkward/buffers",
}  # fmt: skip
ELSEWHERE = {"DELETE webhooks/{webhook_id}", "POST graphql"}


class Server:
    """The server in this process, with one run in the root and one of results."""

    def __init__(self, context: Any):
        self.http: httpx.Client = context.http_client
        self.writer: Any = from_context(context)
        self.fill(self.writer.create_container(RUN, metadata={"start": {"uid": RUN}}))
        self.fill(find(self.writer).create_container(RUN))

    def fill(self, run: Any) -> None:
        run.update_metadata({"changed": True})  # so that there is a revision
        stream = run.create_container("s")
        stream.write_array(np.zeros(2), key="array")
        stream.create_appendable_table(SCHEMA, key="table").append_partition(0, ROWS)
        stream.write_table(ROWS.to_pandas(), key="whole")
        stream.write_ragged(ragged.array([[1.0], [2.0, 3.0]]), key="ragged")

    def send(self, key: str, method: str, path: str, **body: Any) -> httpx.Response:
        headers = {**body.pop("headers", {}), "Authorization": f"Apikey {key}"}
        return self.http.request(method, f"/api/v1/{path}", headers=headers, **body)

    def change(self, key: str, change: Change, run: str) -> httpx.Response:
        path = f"{change.route}/{run}/{change.node}".rstrip("/") + change.query
        return self.send(key, change.method, path, **change.body)

    def raw(self) -> Any:
        """All that a client can read of the raw run."""
        run = from_context(self.writer.context)[RUN]
        stream = run["s"]
        return [
            sorted(self.writer), sorted(run), sorted(stream), dict(run.metadata), run.specs,
            stream["array"].read().tolist(), stream["table"].read().to_dict("list"),
            stream["whole"].read().to_dict("list"),
            json.dumps(dict(stream["table"].metadata)), stream["ragged"].read().tolist(),
        ]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server_of(Layout(tmp_path_factory.mktemp("storage")), KEYS) as context:
        yield Server(context)


def test_each_route_that_changes_something_is_tried_here(server: Server) -> None:
    app: Any = server.http.app  # type: ignore[attr-defined]
    routes = {
        f"{method.upper()} {path.removeprefix('/api/').removeprefix('v1/')}"
        for path, methods in app.openapi()["paths"].items()
        for method in methods
        if method != "get"
    }
    tried = {f"{change} {{path}}".replace(" {", "/{") for change in CHANGES}
    reading = {f"{route}/{{path}}" for route in READING}
    assert routes == tried | reading | ELSEWHERE


@pytest.mark.parametrize("key", ["a", "r"])
def test_a_raw_run_is_not_changed_by_an_analysts_or_a_readers_key(server: Server, key: str) -> None:
    before = server.raw()
    answers = {f"{c} {c.node}": server.change(key, c, RUN) for c in CHANGES}
    assert {what: a.text for what, a in answers.items() if a.status_code not in REFUSED} == {}
    assert server.raw() == before


@pytest.mark.parametrize("path", ["", "results"])
def test_nothing_is_added_beside_raw_runs_and_the_container_of_results_stays(
    server: Server, path: str
) -> None:
    forged = {**CONTAINER, "id": "forged", "metadata": {"start": {"uid": "forged"}}}
    assert server.send("a", "POST", "metadata/", json=forged).status_code == 403
    assert server.send("a", "DELETE", f"stream/close/{path}").status_code == 403
    gone = server.send("a", "DELETE", f"metadata/{path}?recursive=true&external_only=false")
    assert gone.status_code in REFUSED
    assert "results" in list(server.writer) and "forged" not in list(server.writer)


AS_RUN = {
    "content-type": "application/json-patch+json",
    "metadata": [{"op": "add", "path": "/start", "value": {"uid": "results", "time": 1.9e9}}],
    "specs": [{"op": "add", "path": "/0", "value": {"name": "BlueskyRun", "version": "3.0"}}],
}  # fmt: skip


@pytest.mark.parametrize("method, body", [
    ("PATCH", AS_RUN), ("PATCH", MERGE), ("PUT", {"metadata": {"start": {}}, "specs": []}),
    ("PUT", {"metadata": {}, "specs": [{"name": "BlueskyEventStream", "version": "3.0"}]}),
])  # fmt: skip
def test_the_container_of_results_itself_is_not_changed_by_an_analysts_key(
    server: Server, method: str, body: dict[str, Any]
) -> None:
    answer = server.send("a", method, "metadata/results", json=body)
    assert answer.status_code == 403 and "the container 'results' itself" in answer.json()["detail"]
    container = find(server.writer)
    assert dict(container.metadata) == {} and container.specs == []


def test_below_results_an_analysts_key_adds_and_changes_and_a_readers_does_not(
    server: Server,
) -> None:
    refused = {str(c): server.change("r", c, f"results/{RUN}") for c in CHANGES}
    assert {what: a.text for what, a in refused.items() if a.status_code not in REFUSED} == {}
    wrong = {}
    for change in CHANGES:
        answer = server.change("a", change, f"results/{RUN}")
        if answer.status_code not in change.to_results:
            wrong[str(change)] = (answer.status_code, answer.text)
    assert wrong == {}


@pytest.mark.parametrize("key", ["a", "r"])
def test_the_graph_of_entities_is_not_changed(server: Server, key: str) -> None:
    query = 'mutation {upsertNamespace(prefix: "x", uri: "http://x") {prefix}}'
    headers = {"Authorization": f"Apikey {key}"}
    answer = server.http.post("/api/graphql", json={"query": query}, headers=headers)
    assert answer.status_code == 403
    assert server.send(key, "DELETE", "webhooks/1").status_code in REFUSED


def source(**changes: Any) -> dict[str, Any]:
    encoded = f"data:application/vnd.apache.arrow.schema;base64,{_schema()}"
    table = {"arrow_schema": encoded, "npartitions": 1, "columns": SCHEMA.names, "resizable": False}
    return {"structure_family": "table", "structure": table, **changes}


def _schema() -> str:
    return base64.b64encode(SCHEMA.serialize().to_pybytes()).decode()


def victims(path: Path) -> list[dict[str, Any]]:
    uri = path.as_uri().replace("file:///", "file://localhost/")
    asset = {"data_uri": uri, "is_directory": False, "parameter": "data_uris", "num": 0}
    awkward = {"length": 1, "form": {"class": "NumpyArray", "primitive": "int64"}}
    return [
        source(mimetype="text/csv", management="external", parameters={"data_uris": [uri]}),
        source(mimetype="text/csv", parameters={"data_uris": [uri]}),
        source(mimetype="text/csv", assets=[asset], management="external"),
        source(parameters={"table_name": "table_of_a_raw_run", "primary_key": ["value"]}),
        {"structure_family": "awkward", "structure": awkward},
    ]


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("route", ["metadata", "register"])
def test_an_analysts_node_does_not_lead_to_a_file_or_table_of_another(
    server: Server, tmp_path: Path, number: int, route: str
) -> None:
    victim = tmp_path / "raw.h5"
    victim.write_text("seq_num,value\n1,2.0\n")
    data_source = victims(victim)[number]
    node = {**CONTAINER, "id": f"{route}{number}", "data_sources": [data_source]}
    node["structure_family"] = data_source["structure_family"]
    answer = server.send("a", "POST", f"{route}/results/{RUN}", json=node)
    assert answer.status_code in (401, 403, 500), answer.text  # 500: Tiled 0.2.20 refuses assets
    path = f"results/{RUN}/{route}{number}"
    assert server.send("a", "GET", f"metadata/{path}").status_code == 404
    assert server.send("a", "PUT", f"table/full/{path}", **arrow()).status_code == 404
    assert victim.read_text() == "seq_num,value\n1,2.0\n"


@pytest.mark.parametrize("key", ["..", ".", "...", "a/../../b", "..\\x"])
def test_a_key_that_leads_out_of_a_folder_is_refused_with_a_reason(
    server: Server, key: str
) -> None:
    answer = server.send("a", "POST", f"metadata/results/{RUN}", json={**CONTAINER, "id": key})
    assert answer.status_code == 403 and "cannot be the key of a node" in answer.json()["detail"]


def test_a_node_that_the_writer_gave_such_a_key_takes_no_results(server: Server) -> None:
    assert server.send("w", "POST", "metadata/results", json={**CONTAINER, "id": ".."}).is_success
    answer = server.send("a", "POST", "metadata/results/%2e%2e", json=CONTAINER)
    assert answer.status_code == 403


def test_the_container_of_results_is_created_once_and_found_again(server: Server) -> None:
    assert find_or_create(server.writer).item["id"] == find(server.writer).item["id"] == "results"
    assert RUN in find(server.writer)
