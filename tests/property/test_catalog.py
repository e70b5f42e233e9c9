"""Any document can be written to Tiled, with a note of each value that it cannot store."""

import copy
import json
import math
from typing import Any

import numpy as np
import pyarrow
from bluesky_tiled_plugins.utils import truncate_json_overflow
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from tiled.adapters.sql import COLUMN_NAME_PATTERN, is_safe_identifier
from tiled.utils import safe_json_dump

from bluesky_em.files.tiled.columns import column_types
from bluesky_em.files.tiled.storable import has_node, storable
from bluesky_em.files.tiled.values import blank, columns, fit, json_ready, text
from bluesky_em.storage.catalog._normalizer import NOTES_LIMIT, Normalizer

TEXT = st.text(max_size=5)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="./"), min_size=1, max_size=4)
KEYS = st.one_of(
    st.sampled_from(["time", "seq_num", "time_", "ts_x", "x", "X", "ts_ts_x", "x_", "Δ", "a-b"]),
    NAMES, st.text("xX-_'%", min_size=1, max_size=70),
)  # fmt: skip
NUMBERS = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.integers(-3, 3)
)
ARRAYS = npst.arrays(
    npst.boolean_dtypes() | npst.integer_dtypes() | npst.floating_dtypes()
    | npst.unicode_string_dtypes(max_len=3) | npst.complex_number_dtypes(),
    npst.array_shapes(min_dims=0, min_side=0, max_dims=3, max_side=3) | st.just((20,)),
)  # fmt: skip
LISTS = st.recursive(NUMBERS | TEXT, lambda inner: st.lists(inner, max_size=3), max_leaves=4)
VALUES = st.one_of(
    NUMBERS, TEXT, st.none(), st.binary(max_size=3), st.dictionaries(NAMES, NUMBERS, max_size=2),
    ARRAYS, LISTS,
)  # fmt: skip
SCALAR_KEYS = st.sampled_from(["number", "integer", "boolean", "string"]).map(
    lambda dtype: {"source": "", "dtype": dtype, "shape": []}
)
ARRAY_KEYS = st.builds(
    lambda shape, numpy: {"source": "", "dtype": "array", "shape": shape, **numpy},
    st.lists(st.integers(0, 3), max_size=3) | st.just([20]),
    st.sampled_from(["<f8", "<f4", "|u1", "<i8", "|b1", "<U2", "<c16", None]).map(
        lambda dtype: {"dtype_numpy": dtype} if dtype else {}
    ),
)
DATA_KEYS = SCALAR_KEYS | ARRAY_KEYS
METADATA = st.recursive(
    VALUES, lambda inner: st.dictionaries(NAMES | st.integers(), inner, max_size=2), max_leaves=4
)


@st.composite
def keys_and_values(draw: st.DrawFn) -> tuple[dict[str, Any], list[Any]]:
    """A data key, and values most of which match it."""
    key = draw(DATA_KEYS)
    right: Any = {
        "number": st.floats(), "integer": st.integers(-(2**63), 2**63 - 1),
        "boolean": st.booleans(), "string": TEXT,
    }.get(key["dtype"])  # fmt: skip
    if right is None:
        right = npst.arrays(key.get("dtype_numpy", "<f8"), tuple(key["shape"]))
    return key, draw(st.lists(right | right | VALUES, min_size=1, max_size=4))


def fitted(value: Any, key: dict[str, Any]) -> tuple[Any, bool]:
    """Return a value as Tiled stores it, and whether it is not left out."""
    stored = storable(key)
    if stored["dtype"] != key["dtype"]:
        return text(value), True
    try:
        return fit(value, stored), True
    except (ValueError, TypeError):
        return blank(stored), False


@given(st.lists(KEYS, max_size=8, unique=True))
def test_every_key_has_its_own_column_with_its_name_where_possible(keys: list[str]):
    names = columns(keys)
    assert names == columns(reversed(keys))
    assert names.keys() == set(keys)
    all_names = ["time", "seq_num", *names.values(), *(f"ts_{name}" for name in names.values())]
    assert len({name.lower() for name in all_names}) == len(all_names)
    for name in names.values():
        assert is_safe_identifier(f"ts_{name}", COLUMN_NAME_PATTERN)
        assert is_safe_identifier(name, COLUMN_NAME_PATTERN)
        assert not name.startswith(("_", "ts_"))  # reserved by Tiled, and for time stamps
    for key in {"x", "X", "a-b"} & set(keys):
        assert names[key] == key or "X" in keys


@given(keys_and_values(), st.integers(0, 3))
@example(({"dtype": "integer", "shape": []}, [0, 2.5, 2**63, math.nan, "1"]), 1)
@example(({"dtype": "number", "shape": []}, ["abc", 1.0, None, True]), 1)
@example(({"dtype": "array", "shape": [2, 2]}, [None, [[1, 2], [3, 4]], [1, 2]]), 1)
def test_a_table_accepts_every_value_and_returns_those_that_match_their_data_key(
    key_and_values: tuple[dict[str, Any], list[Any]], cut: int
):
    key, values = key_and_values
    pairs = [fitted(value, key) for value in values]
    is_text = storable(key)["dtype"] != key["dtype"]
    key = storable(key)
    rows = [{"v": value} for value, _ in pairs]
    if has_node(key):
        assert {np.asarray(row["v"]).shape for row in rows} == {tuple(key["shape"])}
        assert len({np.asarray(row["v"]).dtype for row in rows}) == 1
    else:
        first = column_types(pyarrow.Table.from_pylist(rows[:cut] or rows).schema, {"v": key})
        for batch in (rows[:cut], rows[cut:]):
            if batch:
                table = pyarrow.Table.from_pylist(batch)
                assert table.cast(column_types(table.schema, {"v": key})).schema == first
    for value, (back, fits) in zip(values, pairs, strict=True):
        if fits and value is not None:
            assert is_text or key["dtype"] == "string" or _same(value, back, key)


def _same(value: Any, back: Any, key: dict[str, Any]) -> bool:
    one, other = np.asarray(value), np.asarray(back)
    if one.size == 0:
        return True
    if one.ndim == 0:
        one = one.reshape(other.shape)
    if other.shape != one.shape:  # shorter than its data key promises, so padded
        other = other[: len(one)]
    exact = one.dtype.kind not in "iuf" or other.dtype.kind != "f"
    return bool(
        np.array_equal(one, other) if exact
        else np.allclose(one.astype(other.dtype), other, equal_nan=True, rtol=1e-6)
    )  # fmt: skip


@given(METADATA)
@example({"a": 2**53 + 1, "b": [math.inf, 1e20], "c": np.array([1j]), "d": np.array(1.5), 1: b"x"})
def test_metadata_become_json_and_no_number_changes(metadata: Any):
    ready = json_ready(metadata)
    assert repr(truncate_json_overflow(ready)) == repr(ready)
    json.loads(safe_json_dump({"metadata": ready}))
    assert json_ready(ready) == ready or "nan" in repr(ready)


@given(
    st.dictionaries(KEYS, DATA_KEYS, max_size=4),
    st.lists(st.dictionaries(KEYS, VALUES, max_size=4), max_size=4),
    METADATA,
)
def test_a_run_of_any_values_passes_with_a_note_of_each_value_left_out(
    data_keys: dict[str, Any], events: list[dict[str, Any]], metadata: Any
):
    given_on: list[tuple[str, Any]] = []
    normalizer = Normalizer()
    normalizer.subscribe(lambda name, document: given_on.append((name, document)))
    descriptor = {
        "uid": "d", "run_start": "run", "time": 0.0, "name": "primary", "data_keys": data_keys,
        "object_keys": {"device": [*data_keys]}, "hints": {}, "configuration": {},
    }  # fmt: skip
    documents: list[tuple[str, Any]] = [
        ("start", {"uid": "run", "time": 0.0, "metadata": metadata}),
        ("descriptor", descriptor),
    ]
    for number, data in enumerate(events, 1):
        data = {key: value for key, value in data.items() if key in data_keys}
        event = {"uid": f"{number}", "descriptor": "d", "time": 1.0, "seq_num": number}
        stamps = dict.fromkeys(data, 1.0)
        documents.append(("event", {**event, "data": data, "timestamps": stamps, "filled": {}}))
    documents.append(
        ("stop", {"uid": "stop", "run_start": "run", "time": 2.0, "exit_status": "success"})
    )
    before = copy.deepcopy(documents)
    for name, document in documents:
        normalizer(name, document)
    assert repr(documents) == repr(before)
    assert [name for name, _ in given_on] == [name for name, _ in documents]
    names = columns(data_keys)
    notes = given_on[-1][1]["_run_normalizer_notes"]
    assert len(notes) <= NOTES_LIMIT + 1
    for (_, document), (_, passed) in zip(documents[2:-1], given_on[2:-1], strict=True):
        assert passed["data"].keys() == {names[key] for key in document["data"]}
        assert passed["timestamps"].keys() == passed["data"].keys()
        for key, value in document["data"].items():
            _, fits = fitted(value, data_keys[key])
            about = f"{key} of event {document['seq_num']} is left out here"
            assert any(note.startswith(about) for note in notes) is not fits
    for key, name in names.items():
        assert any(note.startswith(f"{key!r} of stream 'primary' is column") for note in notes) is (
            key != name
        )
