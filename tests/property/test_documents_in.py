"""Any run gets into Tiled, whatever the dtypes, shapes and names of its values are.

The server is a real Tiled in this process, with the tables of production (DuckDB).
"""

import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bluesky_em import Storage
from bluesky_em.files.journal_reader import read
from bluesky_em.files.layout import Layout
from bluesky_em.files.ledger_writer import LedgerWriter
from bluesky_em.files.tiled.storable import _WIDER
from bluesky_em.storage import callback
from bluesky_em.storage.catalog import Feeder, RunEnding
from tests.support.any_values import NAMES, TABLE, any_key
from tests.support.tiled_app import catalog_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:Using .httpx. with .starlette.testclient"),
    pytest.mark.filterwarnings("ignore:The data type .* does not have a Zarr V3 specification"),
]

PATIENCE = 60.0  # seconds


class Column(NamedTuple):
    """A data key, and its values in the events of a run."""

    data_key: dict[str, Any]
    values: list[Any]


@st.composite
def runs(draw: st.DrawFn) -> tuple[dict[str, Column], int]:
    events = draw(st.integers(1, 3))
    columns: dict[str, Column] = {}
    for name in draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True)):
        data_key, values = draw(any_key())
        columns[name] = Column(data_key, [draw(values) for _ in range(events)])
    return columns, events


class Idle:
    """Takes the place of a Storage's supervisor; starts no processes."""

    def __init__(self, *_: Any, **__: Any):
        pass

    def close(self, **_: Any) -> None:
        pass


class Catalogued:
    """A storage folder whose runs are catalogued in this process."""

    def __init__(self, folder: Path, client: Any):
        self.client = client
        self.storage = Storage(folder, tiled="http://127.0.0.1:1")
        self.ledger = LedgerWriter(Layout(folder).ledger)
        self.feeder = Feeder(self.storage.layout, self.ledger, lambda: None)

    def close(self) -> None:
        self.feeder.stop()
        self.ledger.close()
        self.storage.close()

    def run(self, columns: dict[str, Column], events: int, stream: str) -> str:
        """Pass a run to the callback, and its journal to the feed; return its uid."""
        uid = str(uuid.uuid4())
        self.storage("start", {"uid": uid, "time": 1.0})
        keys = {name: column.data_key for name, column in columns.items()}
        self.storage(
            "descriptor",
            {"uid": f"d-{uid}", "run_start": uid, "time": 1.0, "name": stream, "data_keys": keys,
             "object_keys": {"device": [*keys]}, "configuration": {}, "hints": {}},
        )  # fmt: skip
        for number in range(events):
            data = {name: column.values[number] for name, column in columns.items()}
            self.storage(
                "event",
                {"uid": f"{uid}-{number}", "descriptor": f"d-{uid}", "time": 2.0 + number,
                 "seq_num": number + 1, "data": data, "timestamps": dict.fromkeys(data, 2.0),
                 "filled": {}},
            )  # fmt: skip
        stop = {"uid": f"s-{uid}", "run_start": uid, "time": 9.0, "exit_status": "success"}
        self.storage("stop", stop)
        self.ledger.add_run(uid)
        self.feeder.add(self.storage.layout.journal_of(uid), RunEnding(files_closed=True))
        return uid

    def wait(self, uid: str) -> Any:
        """Return the run in the catalog once it is complete."""
        deadline = time.monotonic() + PATIENCE
        while not self.ledger.is_complete(uid):
            assert time.monotonic() < deadline, f"{uid} is not complete: {self.feeder.trouble}"
            time.sleep(0.03)
        return self.client[uid]


@pytest.fixture(scope="module")
def catalogued() -> Iterator[Catalogued]:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        with catalog_of(Layout(Path(folder))) as client:
            patch.setattr(callback, "Supervisor", Idle)
            patch.setattr("tiled.client.utils.TILED_RETRY_ATTEMPTS", 1)  # as in the writer
            patch.setattr(Feeder, "_connect", lambda _: client)
            made = Catalogued(Path(folder), client)
            yield made
            made.close()


GOOD = Column({"source": "sim", "dtype": "number", "shape": []}, [0.0, 1.0, 2.0])


@pytest.mark.timeout(4 * 3600)  # with --long
def test_every_run_is_in_the_catalog_with_its_other_columns_whole(
    catalogued: Catalogued, long: bool
) -> None:
    @settings(
        derandomize=False,
        print_blob=True,
        max_examples=2000 if long else 100,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(runs(), st.sampled_from(["primary", "a/b", "Größe", ".."]))
    def is_in(drawn: tuple[dict[str, Column], int], stream: str) -> None:
        columns, events = drawn
        uid = catalogued.run({**columns, "good": GOOD}, events, stream)
        run = catalogued.wait(uid)
        (name,) = run
        base = run[name].base
        table = base["internal"].read()
        notes = run.metadata.get("notes", [])
        assert list(table["seq_num"]) == [*range(1, events + 1)]
        good = list(table["good"]) if "good" in table else []
        assert good == GOOD.values[:events], notes
        assert run.metadata["stop"]["exit_status"] == "success"
        lengths = {key: base[key].shape[0] for key in base if not key.startswith("internal")}
        assert set(lengths.values()) <= {events}, lengths
        assert len(run[name].metadata["data_keys"]) == len(columns) + 1
        assert [each for each, _ in read(catalogued.storage.layout.journal_of(uid))] == [
            "start", "descriptor", *["event"] * events, "stop",
        ]  # fmt: skip

    is_in()


@pytest.mark.parametrize(
    ("dtype", "shape", "values", "expected"),
    [
        ("<f2", [3], [np.ones(3, np.float16)], [[1.0, 1.0, 1.0]]),
        ("<u8", [2], [np.array([2**64 - 1, 1], np.uint64)], [[2**64 - 1, 1]]),
        ("<u8", [20], [np.full(20, 2**64 - 1, np.uint64)], [[2**64 - 1] * 20]),
        ("<c16", [2], [np.array([1j, 2])], [[1j, 2]]),
        ("<f8", [None], [np.ones(2), None, np.ones(1)], [[1.0, 1.0], [], [1.0]]),
        ("<U2", [None], [np.array(["a", "bc"])], ['["a", "bc"]']),
        (TABLE, [1], [np.array([(1, "a")], [("x", "<f4"), ("label", "<U4")])],
         ['{"x": [1.0], "label": ["a"]}']),
    ],
)  # fmt: skip
def test_values_that_a_table_cannot_hold_are_right_in_an_array_or_as_text(
    catalogued: Catalogued, dtype: Any, shape: list[Any], values: list[Any], expected: list[Any]
) -> None:
    key = {"source": "sim", "dtype": "array", "shape": shape, "dtype_numpy": dtype}
    uid = catalogued.run({"k": Column(key, values)}, len(values), "primary")
    base = catalogued.wait(uid)["primary"].base
    found = (base["k"] if "k" in base else base["internal"]["k"]).read()
    assert [np.asarray(each).tolist() for each in found] == expected


def test_a_column_that_tiled_refuses_becomes_text_with_a_note_and_the_others_stay(
    catalogued: Catalogued, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_WIDER, "float16", "<f2")  # as if Tiled had float16
    key = {"source": "sim", "dtype": "array", "shape": [2], "dtype_numpy": "<f2"}
    values = [np.ones(2, np.float16), np.zeros(2, np.float16)]
    uid = catalogued.run({"k": Column(key, values), "good": GOOD}, 2, "primary")
    run = catalogued.wait(uid)
    stream = run["primary"].read()
    assert list(stream["good"].values) == [0.0, 1.0]
    assert list(stream["k_text"].values) == ["[1.0, 1.0]", "[0.0, 0.0]"]
    assert "'k' of stream 'primary' is JSON text here, since Tiled refused it" in str(
        run.metadata["notes"]
    )
    assert catalogued.feeder.trouble == ""


def test_the_text_of_a_column_is_in_a_second_table_where_the_first_one_exists_already(
    catalogued: Catalogued,
) -> None:
    key = {"source": "sim", "dtype": "integer", "shape": [], "dtype_numpy": "<u8"}
    values = [None, 2**64 - 1, 3]  # Tiled creates the table, and refuses these rows
    run = catalogued.wait(catalogued.run({"k": Column(key, values), "good": GOOD}, 3, "primary"))
    base = run["primary"].base
    assert {"internal", "internal_text"} <= set(base)
    assert list(base["internal"].read()["good"]) == GOOD.values
    assert list(base["internal_text"].read()["k_text"].dropna()) == [str(2**64 - 1), "3"]
    assert list(run["primary"].read()["good"].values) == GOOD.values
