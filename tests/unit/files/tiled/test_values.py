"""Metadata as JSON can store them."""

import pytest
from bluesky_tiled_plugins.utils import truncate_json_overflow

from bluesky_em.files.tiled.values import json_ready


@pytest.mark.parametrize(
    "value",
    [
        0, True, 0.5, -1.0, 2**53 - 1, 1 - 2**53, 2**53, -(2**53), 2.0**53, -(2.0**53), 2**2000,
        2.0**53 + 2, 1.7976e308, 1.79765e308, float("inf"), float("-inf"),
    ],
)  # fmt: skip
def test_just_the_numbers_that_tiled_would_change_become_text(value: float) -> None:
    changes = truncate_json_overflow(value) != value
    assert json_ready(value) == (str(value) if changes else value)
