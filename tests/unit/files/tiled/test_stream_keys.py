"""Keys of a stream, as its node in Tiled describes them."""

from typing import Any

import numpy as np
import pytest

from bluesky_em.files.document_values import as_described
from bluesky_em.files.tiled.row_map import KEY
from bluesky_em.files.tiled.stream_keys import StreamKeys
from bluesky_em.files.tiled.values import as_stored, text

INTEGER = {"source": "", "dtype": "integer", "shape": [], "dtype_numpy": "<u8"}
COMPLEX = {"source": "", "dtype": "array", "shape": [2], "dtype_numpy": "<c16"}
WORD = {"source": "", "dtype": "string", "shape": []}


@pytest.mark.parametrize(
    ("data_key", "value"),
    [
        (INTEGER, 2**64 - 1), (INTEGER, None), (INTEGER, "not a number"), (WORD, "[1]"),
        ({**INTEGER, "dtype": "array", "shape": [2]}, np.array([2**64 - 1, 0], "<u8")),
        ({**WORD, "dtype": "array", "shape": [2], "dtype_numpy": "<U2"}, ["a", "b"]),
    ],
)  # fmt: skip
def test_the_value_of_a_refused_column_is_read_back_from_its_text(
    data_key: dict[str, Any], value: Any
) -> None:
    metadata = {"data_keys": {"k_text": WORD}, KEY: {"refused": {"k_text": data_key}}}
    keys = StreamKeys.of(metadata)
    assert keys.data_keys == {"k_text": data_key}
    found = as_described(keys.value("k_text", text(value)), data_key)
    expected = as_described(as_stored(data_key)(value), data_key)
    assert np.array_equal(found, expected) and type(found) is type(expected)


def test_null_in_an_array_is_nan() -> None:
    keys = StreamKeys.of({"data_keys": {"k": {"dtype": "array", "shape": [2, 2]}}})
    np.testing.assert_equal(
        keys.value("k", [[None, 1.0], [2.0, None]]), [[np.nan, 1.0], [2.0, np.nan]]
    )
