"""An array of scan lines is read and written as an array of points."""

import numpy as np
import pytest

from bluesky_em.files.map_rows import MapRows

LINES, POINTS = 4, 5


def test_rows_of_a_map_are_its_points_line_by_line():
    array = np.arange(LINES * POINTS * 2).reshape(LINES, POINTS, 2)
    rows, flat = MapRows(array), array.reshape(-1, 2)
    assert (rows.shape, rows.ndim, rows.lines) == (flat.shape, 2, LINES)
    for row in (0, 4, 5, 19):
        np.testing.assert_array_equal(rows[row], flat[row])
    np.testing.assert_array_equal(rows[(slice(3, 12), slice(1, 2))], flat[3:12, 1:2])


@pytest.mark.parametrize("start", range(0, 12, 3))
@pytest.mark.parametrize("count", [0, 1, 4, 5, 8])
def test_any_rows_are_read_and_written_alone(start: int, count: int):
    array = np.zeros((LINES, POINTS, 2), int)
    rows, values = MapRows(array), np.arange(1, 2 * count + 1).reshape(count, 2)
    rows[slice(start, start + count)] = values
    expected = np.zeros((LINES * POINTS, 2), int)
    expected[start : start + count] = values
    np.testing.assert_array_equal(array.reshape(-1, 2), expected)
    np.testing.assert_array_equal(rows[start : start + count], values)
