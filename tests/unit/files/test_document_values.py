"""Values of events, in the types that their data keys describe."""

from typing import Any

import numpy as np
import pytest

from bluesky_em.files.document_values import as_described, column, to_json


def array(shape: list[int | None], dtype: str) -> dict[str, Any]:
    return {"dtype": "array", "shape": shape, "dtype_numpy": dtype}


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        (1, "number", 1.0), (np.float32(0.5), "number", 0.5), (3.0, "integer", 3),
        (None, "integer", None), (1, "boolean", True), (5, "string", "5"), ("x", "number", "x"),
        (0.5, "integer", None),
    ],
)  # fmt: skip
def test_a_scalar_has_the_type_of_its_data_key(value: Any, dtype: str, expected: Any) -> None:
    found = as_described(value, {"dtype": dtype})
    assert found == expected and type(found) is type(expected)


def test_a_missing_value_is_nan_zero_or_empty_text() -> None:
    assert np.isnan(as_described(None, {"dtype": "number"}))
    assert np.isnan(as_described(None, array([2], "<f4"))).all()
    assert as_described(None, array([2], "<u2")).tolist() == [0, 0]
    assert as_described(None, array([2], "|S40")).tolist() == ["", ""]
    assert as_described(None, array([None, 3], "<f8")).shape == (0, 3)


def test_lists_and_arrays_are_arrays_of_the_described_dtype_unless_that_changes_them() -> None:
    assert as_described([1, 2], array([2], "<f4")).dtype == np.float32
    assert as_described([0.5, 2], array([2], "<i4")).tolist() == [0.5, 2.0]
    assert as_described([b"on"], array([1], "|S40")).tolist() == ["on"]
    assert as_described([1.0], array([3], "<f8"))[0] == 1.0
    assert np.isnan(as_described([1.0], array([3], "<f8"))[1:]).all()


def test_a_column_keeps_every_digit_and_words_are_words() -> None:
    numbers = np.array([1 / 3, 1e-300, np.pi])
    found = column([numbers, None], array([3], "<f8"))
    np.testing.assert_array_equal(found, [numbers, [np.nan] * 3])
    words = column([["on", "off"], [b"a", b"b"]], array([2], "|S40"))
    assert words.tolist() == [["on", "off"], ["a", "b"]] and words.dtype == object


def test_values_of_several_lengths_are_text() -> None:
    key = array([None], "<f8")
    assert column([[1.0], [1.0, 2.0]], key).tolist() == ["[1.0]", "[1.0, 2.0]"]


@pytest.mark.parametrize(
    ("key", "dtype", "shape"),
    [
        ({"dtype": "number"}, "<f8", (0,)), ({"dtype": "string"}, "O", (0,)),
        (array([3], "<u2"), "<u2", (0, 3)), (array([3], "|S4"), "O", (0, 3)),
    ],
)  # fmt: skip
def test_a_column_without_events_has_the_described_dtype(
    key: dict[str, Any], dtype: str, shape: tuple[int, ...]
) -> None:
    found = column([], key)
    assert (found.dtype, found.shape) == (np.dtype(dtype), shape)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_floats_of_any_precision_are_json(dtype: Any) -> None:
    assert to_json({"one": dtype(0.5), "many": np.ones(2, dtype)}) == (
        '{"one": 0.5, "many": [1.0, 1.0]}'
    )


@pytest.mark.parametrize("dtype", [complex, np.complex64, np.complex128, np.clongdouble])
def test_a_complex_number_is_its_two_parts_in_json(dtype: Any) -> None:
    assert to_json([dtype(1 - 2j), np.ones(1, dtype)]) == "[[1.0, -2.0], [[1.0, 0.0]]]"
