"""BEC's documentation of its modes, case by case, and what is done here instead of losing data.

BEC's `async_update` is `{"type", "max_shape", "index"}`; here `mode`, `shape` and the update's
index. BEC's `add` is `add_slice` without an index here. In `add_slice` BEC's row i is `(i, -1)`,
its row -1 is `(-1, 0)`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bluesky_em.errors import FrameMismatch
from bluesky_em.files.hdf5.updates import Update, UpdateDeclaration, UpdateReader, open_updates

NAN = np.nan
Puts = list[tuple[Any, Any]]


def put(path: Path, declared: dict[str, Any], puts: Puts) -> None:
    file = open_updates(path, UpdateDeclaration.load({"dtype": "<f4", **declared}), "owner")
    try:
        for number, (values, index) in enumerate(puts):
            array = np.asarray(values, "<f4")
            file.write(Update.of(number, array, time=float(number), index=index), array)
    finally:
        file.close()


ADD = {"mode": "add_slice"}
SLICE = {"mode": "add_slice"}
REPLACE = {"mode": "replace"}


@pytest.mark.parametrize(
    ("declared", "puts", "expected"),
    [
        pytest.param(
            ADD | {"shape": [None]}, [(1, None), (2, None)], [1, 2],
            id="add: a scalar is appended",
        ),
        pytest.param(
            ADD | {"shape": [None]}, [([1, 2], None), ([3], None)], [1, 2, 3],
            id="add: a list is appended to one axis",
        ),
        pytest.param(
            ADD | {"shape": [None, 2]}, [([1, 2], None), ([3, 4], None)], [[1, 2], [3, 4]],
            id="add: one dimension less gets a new leading axis",
        ),
        pytest.param(
            ADD | {"shape": [None, 2]}, [([[1, 2], [3, 4]], None), ([5, 6], None)],
            [[1, 2], [3, 4], [5, 6]],
            id="add: several rows at once",
        ),
        pytest.param(
            ADD | {"shape": [None, 1, 2]}, [([[1, 2]], None), ([[[3, 4]], [[5, 6]]], None)],
            [[[1, 2]], [[3, 4]], [[5, 6]]],
            id="add: images, one and several",
        ),
        pytest.param(
            ADD | {"shape": [None, 3]}, [([1, 2, 3], None), ([4], None)],
            [[1, 2, 3], [4, NAN, NAN]],
            id="add: the rest of a short row holds the fill value",
        ),
        pytest.param(
            SLICE | {"shape": [None, 4]}, [([1, 2], (0, -1)), ([3], (0, -1)), ([4], (1, -1))],
            [[1, 2, 3, NAN], [4, NAN, NAN, NAN]],
            id="add_slice: each slice goes behind the one before in its row",
        ),
        pytest.param(
            SLICE | {"shape": [None, 3]}, [([1], (1, -1)), ([2], (0, -1)), ([3], (1, -1))],
            [[2, NAN, NAN], [1, 3, NAN]],
            id="add_slice: going back a row loses nothing (BEC: the rows below)",
        ),
        pytest.param(
            SLICE | {"shape": [None, None]}, [([1, 2], (-1, 0)), ([3], (-1, 0)), ([4], (0, -1))],
            [[1, 2, 4], [3, NAN, NAN]],
            id="add_slice: row -1 is the next one (BEC: leaves one empty)",
        ),
        pytest.param(
            SLICE | {"shape": [None, 2, 3]}, [([7], (0, 1, 1)), ([[1], [2]], (0, 0, 0))],
            [[[1, NAN, NAN], [2, 7, NAN]]],
            id="add_slice: any number of axes (BEC: two)",
        ),
        pytest.param(
            REPLACE | {"shape": [2]}, [([1, 2], None), ([3, 4], None)], [3, 4],
            id="replace: the last value",
        ),
        pytest.param(
            REPLACE | {"shape": [None]}, [([1, 2, 3], None), ([4], None)], [4],
            id="replace: the last value, of whatever size",
        ),
        pytest.param(
            REPLACE | {"shape": [1]}, [(1, None), (2, None)], [2], id="replace: a scalar",
        ),
    ],
)  # fmt: skip
def test_as_bec_documents_it(tmp_path: Path, declared: dict[str, Any], puts: Puts, expected: Any):
    put(tmp_path / "a.h5", declared, puts)
    with UpdateReader(tmp_path / "a.h5") as reader:
        np.testing.assert_array_equal(reader.read(), expected)
        assert reader.table()["time"].tolist() == list(range(len(puts)))


@pytest.mark.parametrize(
    ("declared", "puts"),
    [
        pytest.param(ADD | {"shape": [None, 2]}, [([1, 2, 3], None)], id="add: a long row"),
        pytest.param(ADD | {"shape": [None, 1, 2]}, [([[1, 2, 3]], None)], id="add: a large image"),
        pytest.param(ADD | {"shape": [1, 2]}, [([[1, 2]] * 2, None)], id="add: too many rows"),
        pytest.param(
            SLICE | {"shape": [None, 3]},
            [([1, 2], (0, -1)), ([3, 4], (0, -1))],
            id="add_slice: more than a row can hold",
        ),
        pytest.param(REPLACE | {"shape": [2]}, [([1, 2, 3], None)], id="replace: a large value"),
    ],
)
def test_what_bec_cuts_or_drops_is_refused(tmp_path: Path, declared: dict[str, Any], puts: Puts):
    with pytest.raises(FrameMismatch, match=rf"^update {len(puts) - 1} has .*but was declared"):
        put(tmp_path / "a.h5", declared, puts)
    with UpdateReader(tmp_path / "a.h5") as reader:
        assert reader.count() == len(puts) - 1
