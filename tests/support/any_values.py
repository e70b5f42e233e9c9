"""Data keys and values of every dtype, shape and name that a run can have, for property tests."""

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

TABLE = [["x", "<f4"], ["label", "<U4"]]
DTYPES = [
    "|b1", "|i1", "<i2", "<i4", "<i8", "|u1", "<u2", "<u4", "<u8", "<f2", "<f4", "<f8", ">f8",
    np.dtype(np.longdouble).str, "<c8", "<c16", "<U3", "<U0", "|S3", "<M8[ns]", "<m8[s]", "|O",
    TABLE,
]  # fmt: skip
SHAPES: list[list[int | None]] = [
    [], [0], [1], [3], [2, 2], [20], [None], [None, 2], [2, None], [0, 2],
]  # fmt: skip
SCALARS = ["number", "integer", "boolean", "string", "table"]
NAMES = [
    "time", "seq_num", "internal", "a.b", "a/b", "Größe", "TS_x", "x", "X", "ts_y", "what?", "50%",
    "a b", "..",
]  # fmt: skip
VALUES = [
    None, True, 0, -1, 2**63 + 5, 2**70, 0.5, float("nan"), float("-inf"), "on", "", b"\xff",
    1 + 2j, {1, 2}, {"a": [1]}, [1, [2]], np.float16(0.5), np.longdouble(0.1), np.array(1.5),
    np.datetime64("2026-01-01"), Path("x"), ..., "\ud800",
]  # fmt: skip

DataKey = dict[str, Any]
Values = st.SearchStrategy[Any]


@st.composite
def any_key(draw: st.DrawFn) -> tuple[DataKey, Values]:
    """A data key and its values; those of a scalar are of any type."""
    if draw(st.booleans()):
        dtype, shape = draw(st.sampled_from(DTYPES)), draw(st.sampled_from(SHAPES))
        key = {"source": "sim", "dtype": "array", "shape": shape, "dtype_numpy": dtype}
        return key, st.none() | _an_array(dtype, shape)
    key = {"source": "sim", "dtype": draw(st.sampled_from(SCALARS)), "shape": []}
    if draw(st.booleans()):
        key["dtype_numpy"] = draw(st.sampled_from(DTYPES))
    return key, st.sampled_from(VALUES)


@st.composite
def _an_array(draw: st.DrawFn, dtype: Any, shape: list[int | None]) -> Any:
    sizes = tuple(draw(st.integers(0, 3)) if size is None else size for size in shape)
    if dtype == TABLE:
        return np.zeros(sizes, [("x", "<f4"), ("label", "<U4")])
    filled = np.dtype(dtype)
    if filled.kind == "u" and draw(st.booleans()):
        return np.full(sizes, np.iinfo(filled).max, filled)  # of 64 bits: more than 2**63
    if filled.kind in "OUS":
        return np.full(sizes, draw(st.sampled_from(["", "ab"]))).astype(filled)
    return np.full(sizes, draw(st.integers(0, 1)), filled)
