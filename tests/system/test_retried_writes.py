"""Writing a run to Tiled again from its first document doubles nothing."""

import copy
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from event_model import compose_run
from tiled.client import from_uri

from bluesky_em.files.tiled.address import TiledAddress
from bluesky_em.storage.catalog._fallback import Fallback
from bluesky_em.storage.catalog._normalizer import Normalizer
from bluesky_em.storage.catalog._run_writer import TiledRunWriter

Documents = list[tuple[str, Any]]

KEYS: Any = {
    "trace": {"source": "sim", "dtype": "array", "shape": [20], "dtype_numpy": "<f8"},
    "names": {"source": "sim", "dtype": "array", "shape": [2], "dtype_numpy": "|S40"},
    "peaks": {"source": "sim", "dtype": "array", "shape": [None, 2], "dtype_numpy": "<i4"},
    # a second type: Tiled's database refuses to store a row twice for the first one only
    "times": {"source": "sim", "dtype": "array", "shape": [None], "dtype_numpy": "<f8"},
    "x": {"source": "sim", "dtype": "number", "shape": []},
}


@pytest.fixture
def catalog(tiled: TiledAddress) -> Iterator[Any]:
    """The session's catalog, with the writer's key."""
    client: Any = from_uri(tiled.uri, api_key=tiled.writer_key).include_data_sources()
    with closing(client.context):
        yield client


def documents(events: int, keys: Any = KEYS) -> Documents:
    run = compose_run()
    stream = run.compose_descriptor(name="primary", data_keys=keys)
    given: Documents = [("start", run.start_doc), ("descriptor", stream.descriptor_doc)]
    for n in range(events):
        data = {
            "trace": np.full(20, float(n)), "names": ["row", str(n)], "x": float(n),
            "peaks": [[n, n]] * (n % 3), "times": [float(n)] * (n % 4),
        }  # fmt: skip
        data = {key: data[key] for key in keys}
        event = stream.compose_event(data=data, timestamps=dict.fromkeys(data, 0.0))
        given.append(("event", event))
    return [*given, ("stop", run.compose_stop())]


def attempt(catalog: Any, documents: Documents, *, flush_after: int | None = None) -> None:
    tiled = TiledRunWriter(catalog, lambda _: [], Path(), Fallback())
    normalizer = Normalizer()
    normalizer.subscribe(tiled)
    for n, (name, document) in enumerate(documents):
        normalizer(name, copy.deepcopy(document))
        if n == flush_after:
            tiled.flush()
    tiled.flush()


def test_rows_of_arrays_and_tables_exist_once_however_far_earlier_attempts_came(
    catalog: Any,
) -> None:
    run = documents(events=12)
    attempt(catalog, run[:6], flush_after=3)
    attempt(catalog, run[:10], flush_after=8)
    attempt(catalog, run[:4])
    attempt(catalog, run, flush_after=9)
    stream = catalog[run[0][1]["uid"]]["primary"].base
    assert list(stream["trace"][:, 0]) == [*range(12)]
    assert [names[1].decode() for names in stream["names"].read()] == [*map(str, range(12))]
    events = stream["internal"].read()
    assert list(events["seq_num"]) == [*range(1, 13)]
    check_ragged(stream, events=12)


def check_ragged(stream: Any, events: int) -> None:
    assert stream["peaks"].read().tolist() == [[[n, n]] * (n % 3) for n in range(events)]
    assert stream["times"].read().tolist() == [[float(n)] * (n % 4) for n in range(events)]


@pytest.mark.parametrize("kind", ["array.ArrayClient", "ragged.RaggedClient"])
def test_an_array_that_was_created_and_not_written_is_written(
    catalog: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = documents(events=3)
    with monkeypatch.context() as patched:
        patched.setattr(f"tiled.client.{kind}.write", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            attempt(catalog, run[:-2])
    attempt(catalog, run)
    stream = catalog[run[0][1]["uid"]]["primary"].base
    assert list(stream["trace"][:, 0]) == [0, 1, 2]
    check_ragged(stream, events=3)


def test_a_row_that_tiled_stored_and_never_counted_moves_no_other_row(catalog: Any) -> None:
    run = documents(events=7)
    attempt(catalog, run[:5])
    stream = catalog[run[0][1]["uid"]]["primary"].base
    for array in (stream["peaks"], stream["times"]):
        array.write_block(array.read()[1:2], block=1)
    attempt(catalog, run, flush_after=5)
    check_ragged(stream, events=7)


def test_keys_of_a_later_descriptor_exist_once_however_far_earlier_attempts_came(
    catalog: Any,
) -> None:
    run = documents(events=4, keys={key: KEYS[key] for key in ("trace", "names", "x")})
    (_, start), (_, first), *_, (_, stop) = run
    later = {**first, "uid": "later", "data_keys": dict.fromkeys(("x", "y"), KEYS["x"])}
    later["data_keys"]["spectrum"] = KEYS["trace"]
    events: Documents = []
    for n in range(5, 9):
        data = {"x": float(n), "y": float(10 * n), "spectrum": np.full(20, float(n))}
        stamps = dict.fromkeys(data, 0.0)
        event = {"uid": f"event {n}", "descriptor": "later", "seq_num": n, "time": float(n)}
        events.append(("event", {**event, "data": data, "timestamps": stamps, "filled": {}}))
    run = [*run[:-1], ("descriptor", later), *events, ("stop", stop)]
    attempt(catalog, run[:3])
    attempt(catalog, run[:9], flush_after=4)
    attempt(catalog, run[:10], flush_after=7)
    attempt(catalog, run, flush_after=8)
    stream = catalog[start["uid"]]["primary"].base
    assert list(stream["internal"].read()["seq_num"]) == [*range(1, 9)]
    np.testing.assert_array_equal(
        stream["internal_later_1"].read()["y"], [np.nan] * 4 + [50, 60, 70, 80]
    )
    np.testing.assert_array_equal(stream["spectrum"][:, 0], [np.nan] * 4 + [5, 6, 7, 8])
    np.testing.assert_array_equal(stream["trace"][:, 0], [0, 1, 2, 3] + [np.nan] * 4)
    assert list(stream["internal"].read()["x"]) == [0, 1, 2, 3, 5, 6, 7, 8]
