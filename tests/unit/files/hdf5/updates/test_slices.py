"""Slices at any index, compared with numpy, which writes them in the order of their numbers."""

import random
import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bluesky_em.errors import FrameMismatch
from bluesky_em.files.hdf5.updates import (
    Held,
    Update,
    UpdateDeclaration,
    UpdateReader,
    open_updates,
)

Slices = list[tuple[tuple[int, ...], tuple[int, ...]]]


@st.composite
def slices(draw: st.DrawFn) -> tuple[list[int | None], Slices]:
    """Draw a declared shape, and the index and shape of each update."""
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    shape = [draw(st.sampled_from([size, None])) for size in sizes]
    boxes: Slices = []
    for _ in range(draw(st.integers(1, 7))):
        index = [draw(st.integers(0, size - 1)) for size in sizes]
        boxes.append(
            (
                tuple(index),
                tuple(draw(st.integers(1, n - i)) for i, n in zip(index, sizes, strict=True)),
            )
        )
    return shape, boxes


def model(shape: list[int | None], updates: list[tuple[Update, np.ndarray]]) -> np.ndarray:
    ends = np.array([np.array(u.index) + u.shape for u, _ in updates]).max(axis=0)
    grows = [size is None or axis == 0 for axis, size in enumerate(shape)]
    array = np.full([e if g else n for e, g, n in zip(ends, grows, shape, strict=True)], np.nan)
    for update, values in updates:
        start = update.index or ()
        array[tuple(slice(i, i + n) for i, n in zip(start, update.shape, strict=True))] = values
    return array


@settings(max_examples=settings.default.max_examples // 4, deadline=None)
@given(slices(), st.randoms(use_true_random=False))
def test_in_any_order_the_array_is_that_of_numpy(
    declared: tuple[list[int | None], Slices], dice: random.Random
):
    shape, boxes = declared
    updates = []
    for number, (index, size) in enumerate(boxes):
        values = np.arange(np.prod(size), dtype="<f8").reshape(size) + 1000 * (number + 1)
        updates.append((Update.of(number, values, time=0.0, index=index), values))
    order = dice.sample(updates, len(updates)) + dice.sample(updates, min(2, len(updates)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "haadf.h5"
        plain = {"mode": "add_slice", "shape": shape, "dtype": "<f8"}
        with closing(open_updates(path, UpdateDeclaration.load(plain), "owner")) as file:
            for update, values in order:
                file.write(update, values)
                if dice.random() < 0.5:
                    file.flush()
            file.flush()
            assert all(file.holds(update) for update, _ in updates)
        with UpdateReader(path) as reader:
            np.testing.assert_array_equal(reader.read(), model(shape, updates))
            table = {int(row["number"]): row for row in reader.table()}
            for update, _ in updates:
                assert tuple(table[update.number]["offset"]) == update.index
                assert tuple(table[update.number]["shape"]) == update.shape


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "haadf.h5"


def image(number: int, value: float, index: tuple[int, int], shape: tuple[int, int] = (2, 2)):
    values = np.full(shape, value, "<f4")
    return Update.of(number, values, time=5.0, index=index), values


DECLARED = UpdateDeclaration.load({"mode": "add_slice", "shape": [4, 4], "dtype": "<f4"})


def test_overwriting_is_recorded(path: Path):
    file = open_updates(path, DECLARED, "owner")
    for entry in (image(0, 1, (0, 0)), image(1, 2, (2, 2)), image(2, 3, (1, 1))):
        file.write(*entry)
    file.flush()
    held = [file.verify(number) for number in range(3)]
    assert held == [Held.SUPERSEDED, Held.SUPERSEDED, Held.INTACT]
    file.close()
    with UpdateReader(path) as reader:
        table = reader.table()
        assert table["overwrote"].tolist() == [0, 0, 2]
        assert table["landed"].tolist() == [1, 1, 0]
        assert table["time"].tolist() == [5.0] * 3
        assert reader.update(2).tolist() == [[3, 3], [3, 3]]
        with pytest.raises(
            LookupError, match="no values of its own for update 0: .* been overwritten"
        ):
            reader.update(0)
        assert reader.read((slice(0, 2), 1)).tolist() == [1, 3]


def test_an_older_update_that_is_late_stays_beneath_the_newer(path: Path):
    file = open_updates(path, DECLARED, "owner")
    file.write(*image(5, 5, (0, 0)))
    file.write(*image(3, 3, (0, 1)))
    file.flush()
    assert [file.verify(5), file.verify(3)] == [Held.INTACT, Held.SUPERSEDED]
    file.close()
    with UpdateReader(path) as reader:
        assert reader.read((0,))[:3].tolist() == [5, 5, 3]


def test_out_of_bounds_is_refused_with_the_bounds(path: Path):
    file = open_updates(path, DECLARED, "owner")
    words = r"0 has an end at 5 on axis 1, but .* `add_slice` with shape \(4, 4\); nothing is cut"
    with pytest.raises(FrameMismatch, match=words):
        file.write(*image(0, 1, (0, 3)))
    assert file.verify(0) is Held.ABSENT
    file.close()


def test_an_older_update_is_verified_before_it_is_overwritten(path: Path):
    file = open_updates(path, DECLARED, "owner")
    update, values = image(0, 1, (0, 0))
    file.write(update, values + 1)  # other bytes
    file.write(*image(1, 2, (1, 1)))
    file.flush()
    assert file.verify(0) is Held.ABSENT
    file.write(update, values)
    file.flush()
    assert file.verify(0) is Held.SUPERSEDED
    file.close()


def test_a_row_that_was_never_written_holds_the_fill_value(path: Path):
    declared = UpdateDeclaration.load({"mode": "add_slice", "shape": [None, 2], "dtype": "<f4"})
    file = open_updates(path, declared, "owner")
    values = np.ones(2, "<f4")
    file.write(Update.of(1, values, time=0.0, index=(1, 0)), values)
    file.close()
    with UpdateReader(path) as reader:
        np.testing.assert_array_equal(reader.read(), [[np.nan] * 2, [1, 1]])
        assert reader.numbers() == [1]
