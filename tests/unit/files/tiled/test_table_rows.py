"""Values from Tiled are compared with those that were written."""

import math
from typing import Any

import numpy as np
import pyarrow
import pytest

from bluesky_em.files.tiled.table_rows import differing, is_same


@pytest.mark.parametrize(
    ("found", "written"),
    [
        (1.0, 1), (math.nan, None), (None, math.nan), ([1.0, None], [1, math.nan]), ("", ""),
        (float(2**60), 2**60 + 1), (np.array([1.0, 2.0]), [1.0, 2.0]), (True, True), ([], []),
    ],
)  # fmt: skip
def test_what_tiled_returns_for_a_value_is_the_same_value(found: Any, written: Any):
    assert is_same(found, written)


@pytest.mark.parametrize(
    ("found", "written"),
    [
        (1.0, 2), (1.0, None), ("", None), ([1.0], [1.0, 2.0]), (None, 0), ([None], [0]),
        (2**60, 2**60 + 1), (0.1 + 0.2, 0.3), ("a", "A"), (None, []),
    ],
)  # fmt: skip
def test_other_values_differ(found: Any, written: Any):
    assert not is_same(found, written)


def test_of_each_column_that_differs_the_first_row_is_named():
    one = pyarrow.table({"a": [1, 2, 3], "b": [1.0, None, 3.0], "c": ["x", "y", "z"]})
    other = pyarrow.table({"a": [1, 5, 6], "b": [1.0, math.nan, 3.0], "c": ["x", "y", "!"]})
    assert [*differing(one, other)] == [("a", 1), ("c", 2)]
