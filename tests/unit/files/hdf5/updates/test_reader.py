"""Versions, sums and their errors, as a reader returns them."""

from pathlib import Path

import numpy as np
import pytest

from bluesky_em.files.hdf5.updates import Update, UpdateDeclaration, UpdateReader, open_updates


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "haadf.h5"


def test_versions_are_the_newest_ones(path: Path):
    plain = {"mode": "replace", "shape": [2], "dtype": "<f4", "keep_versions": 3}
    file = open_updates(path, UpdateDeclaration.load(plain), "owner")
    for number in (4, 0, 1, 2, 3):
        values = np.full(2, number, "<f4")
        file.write(Update.of(number, values, time=0.0), values)
    file.close()
    with UpdateReader(path) as reader:
        assert reader.versions() == [2, 3, 4]
        assert [reader.update(number).tolist() for number in (2, 4)] == [[2, 2], [4, 4]]
        assert reader.read().tolist() == [4, 4]
        with pytest.raises(LookupError, match="no values of its own for update 0"):
            reader.update(0)


def test_a_sum_has_a_count_but_no_versions(path: Path):
    plain = {"mode": "accumulate", "shape": [2], "dtype": "<u2"}
    file = open_updates(path, UpdateDeclaration.load(plain), "owner")
    values = np.full(2, 65535, "<u2")
    for number in range(3):
        file.write(Update.of(number, values, time=0.0), values)
    file.close()
    with UpdateReader(path) as reader:
        assert (reader.read().tolist(), reader.count()) == ([196605] * 2, 3)
        assert reader.read().dtype == np.dtype("<i8")
        with pytest.raises(ValueError, match="has no versions, but .*accumulate"):
            reader.versions()
        with pytest.raises(LookupError, match="update 0: .* added up"):
            reader.update(0)


def test_two_damaged_sums_are_an_error_and_not_a_new_sum(path: Path):
    plain = {"mode": "accumulate", "shape": [100], "dtype": "<u2"}
    file = open_updates(path, UpdateDeclaration.load(plain), "owner")
    for number in range(3):
        values = np.full(100, 7 + number, "<u2")
        file.write(Update.of(number, values, time=0.0), values)
        file.flush()
    file.close()
    damaged = path.read_bytes()
    for total in (7 + 8, 7 + 8 + 9):
        total_bytes = np.full(100, total, "<i8").tobytes()
        damaged = damaged.replace(total_bytes, b"x" * len(total_bytes))
    path.write_bytes(damaged)
    with pytest.raises(OSError, match="haadf.h5 is damaged: neither of its two sums"):
        open_updates(path, UpdateDeclaration.load(plain), "owner")
