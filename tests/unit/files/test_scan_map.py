from dataclasses import replace

import numpy as np
import pytest

from bluesky_em.axes import Axis
from bluesky_em.files.scan_map import Block, ScanMap, passes

Y = Axis(name="y", units="m", offset=0.0, scale=1e-9, size=2)
X = Axis(name="x", units="m", offset=0.0, scale=1e-9, size=3)
BELOW = replace(Y, offset=2e-9)


def summary(*blocks: Block) -> list[tuple[int, int, int, int]]:
    return [(each.row, each.rows, each.missing, each.number) for each in passes(blocks)]


def test_a_full_scan_is_one_pass():
    assert summary(((Y, X), 0, 6, 0)) == [(0, 6, 0, 0)]


def test_a_scan_that_ended_early_has_missing_points():
    assert summary(((Y, X), 0, 4, 0)) == [(0, 4, 2, 0)]


def test_blocks_that_continue_a_scan_belong_to_one_pass():
    assert summary(((Y, X), 0, 2, 0), ((Y, X), 2, 3, 2), ((Y, X), 5, 1, 5)) == [(0, 6, 0, 0)]


def test_a_block_of_several_scans_is_cut_into_passes():
    assert summary(((Y, X), 0, 14, 0)) == [(0, 6, 0, 0), (6, 6, 0, 6), (12, 2, 4, 12)]


def test_a_block_that_fills_a_pass_and_begins_another_is_cut():
    assert summary(((Y, X), 0, 4, 0), ((Y, X), 4, 4, 4)) == [(0, 6, 0, 0), (6, 2, 4, 6)]


def test_numbers_that_are_left_out_end_a_pass():
    assert summary(((Y, X), 0, 4, 0), ((Y, X), 4, 6, 6)) == [(0, 4, 2, 0), (4, 6, 0, 6)]


def test_another_scan_ends_a_pass():
    assert summary(((Y, X), 0, 4, 0), ((BELOW, X), 4, 6, 4)) == [(0, 4, 2, 0), (4, 6, 0, 4)]


@pytest.mark.parametrize("scan", [(), (X,)], ids=["no scan", "a line"])
def test_rows_that_belong_to_no_scan_over_an_area_form_no_map(scan: tuple[Axis, ...]):
    blocks: list[Block] = [((Y, X), 0, 6, 0), (scan, 6, 1, 6)]
    assert passes(blocks) == []
    assert ScanMap.of(blocks) is None


def test_no_rows_form_no_map():
    assert ScanMap.of([]) is None


def test_passes_over_the_same_columns_form_a_map_with_all_their_lines():
    scan_map = ScanMap.of([((Y, X), 0, 4, 0), ((BELOW, X), 4, 6, 6)])
    assert scan_map is not None
    assert scan_map.shape == (4, 3)
    (y, lines, units), (x, columns, _) = scan_map.axes([])
    assert (y, x, units) == ("y", "x", "m")
    np.testing.assert_allclose(lines, [0.0, 1e-9, 2e-9, 3e-9])
    np.testing.assert_allclose(columns, X.values)


@pytest.mark.parametrize(
    "other",
    [(Y, replace(X, offset=1.0)), (Y, replace(X, size=4)), (replace(Y, units="deg"), X),
     (replace(Y, name="tilt"), X)],
    ids=["shifted columns", "more columns", "other units", "another axis"],
)  # fmt: skip
def test_passes_over_different_axes_form_no_map(other: tuple[Axis, Axis]):
    assert ScanMap.of([((Y, X), 0, 6, 0), (other, 6, 6, 6)]) is None


def test_axes_of_the_scan_are_named_apart_from_those_of_the_frame():
    scan_map = ScanMap.of([((Y, X), 0, 6, 0)])
    assert scan_map is not None
    energy = Axis(name="energy", units="eV", offset=0.0, scale=1.0, size=4)
    assert [name for name, _, _ in scan_map.axes((energy,))] == ["y", "x"]
    assert [name for name, _, _ in scan_map.axes((Y, X))] == ["scan_y", "scan_x"]
